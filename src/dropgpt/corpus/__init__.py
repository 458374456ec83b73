"""The corpus: documents from FineWeb, from the offline Wikipedia slice, or from your files."""

from collections.abc import Iterator

from dropgpt import params
from dropgpt.corpus import fineweb, own_files, wikipedia
from dropgpt.corpus.document import Document


def documents(data: params.Data) -> Iterator[Document]:
    """The corpus that section `data` of params.yaml asks for, one document at a time.

    Not for the whole of a FineWeb config: that is `fineweb_shards`.
    """
    match data.source:
        case "wikipedia":
            return wikipedia.documents()
        case "fineweb":
            assert data.documents is not None  # else it is read in shards
            return fineweb.documents(data.documents, data.config, data.revision)
        case "files":
            return own_files.documents(data.files, data.text_column, data.separator)
