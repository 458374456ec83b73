"""Documents, from FineWeb, Wikipedia or your files -> data/documents.parquet"""

from collections.abc import Iterator
from pathlib import Path

from dropgpt import corpus
from dropgpt.corpus import document
from dropgpt.corpus.document import Document
from dropgpt.machine.progress import progress
from dropgpt.params import Params
from stages import run

DOCUMENTS = Path("data/documents.parquet")


def download_fineweb(params: Params) -> list[str]:
    characters = 0

    def counted(documents: Iterator[Document]) -> Iterator[Document]:
        nonlocal characters
        for one in documents:
            characters += len(one.text)
            yield one

    found = progress(
        "download_fineweb",
        "documents",
        params.runtime.log_interval,
        total=params.data.documents if params.data.source == "fineweb" else None,
        iterable=corpus.documents(params.data),
    )
    documents = document.write(counted(found), DOCUMENTS)
    return [f"{documents:,} documents of {characters:,} characters: {DOCUMENTS}"]


if __name__ == "__main__":
    run(download_fineweb)
