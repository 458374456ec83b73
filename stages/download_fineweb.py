"""Documents, from FineWeb, Wikipedia or your files -> data/documents.parquet

Where data.documents is null it lists FineWeb's shards only: stage tokenize reads them on the hub.
"""

from collections.abc import Iterator
from pathlib import Path

from dropgpt import corpus
from dropgpt.corpus import document, fineweb_shards
from dropgpt.corpus.document import Document
from dropgpt.machine.progress import progress
from dropgpt.params import Params
from stages import run

DOCUMENTS = Path("data/documents.parquet")


def download_fineweb(params: Params) -> list[str]:
    data = params.data
    if data.all_of_fineweb:
        shards = fineweb_shards.write(
            fineweb_shards.of_config(data.config, data.revision), DOCUMENTS
        )
        total = sum(shard.documents for shard in shards)
        return [f"{total:,} documents in {len(shards):,} shards on the hub: {DOCUMENTS}"]
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
        total=data.documents if data.source == "fineweb" else None,
        iterable=corpus.documents(data),
    )
    documents = document.write(counted(found), DOCUMENTS)
    return [f"{documents:,} documents of {characters:,} characters: {DOCUMENTS}"]


if __name__ == "__main__":
    run(download_fineweb)
