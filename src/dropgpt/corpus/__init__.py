"""The corpus: documents from FineWeb, from the offline Wikipedia slice, or from your files."""

import hashlib
from collections.abc import Iterator

from dropgpt import params
from dropgpt.corpus import fineweb, own_files, wikipedia
from dropgpt.corpus.document import Document
from dropgpt.errors import warn


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
            found = own_files.documents(data.files, data.text_column, data.separator)
            return _each_once(found) if data.deduplicate else found


def _each_once(documents: Iterator[Document]) -> Iterator[Document]:
    """Without those that are word for word an earlier one, of which a line tells.

    Else a copy of what is held out may stand in the training part.
    """
    seen: set[bytes] = set()
    copies = 0
    for document in documents:
        digest = hashlib.sha256(document.text.encode()).digest()
        if digest in seen:
            copies += 1
        else:
            seen.add(digest)
            yield document
    if copies:
        warn(
            f"{copies:,} later copies of documents are left out; data.deduplicate: false keeps them"
        )
