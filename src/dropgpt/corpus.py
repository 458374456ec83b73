"""The corpus: documents from FineWeb, from the offline Wikipedia slice, or from your files."""

from collections.abc import Iterator

from dropgpt import params
from dropgpt.document import Document
from dropgpt.fineweb import fineweb
from dropgpt.own_files import own_files
from dropgpt.wikipedia import wikipedia


def documents(data: params.Data) -> Iterator[Document]:
    """The corpus that section `data` of params.yaml asks for, one document at a time."""
    match data.source:
        case "wikipedia":
            return wikipedia()
        case "fineweb":
            return fineweb(data.documents, data.config, data.revision)
        case "files":
            return own_files(data.files, data.text_column, data.separator)
