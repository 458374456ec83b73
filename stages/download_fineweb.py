"""Documents, from the hub, Wikipedia or your files -> data/documents.parquet

Where data.documents is null it lists shards on the hub only: stage tokenize reads them there.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from dropgpt import corpus, unread
from dropgpt.corpus import document, hub_shards
from dropgpt.corpus.document import Document
from dropgpt.errors import warn
from dropgpt.machine.progress import progress
from dropgpt.params import Params
from stages import run

DOCUMENTS = Path("data/documents.parquet")


def download_fineweb(params: Params) -> list[str]:
    data = params.data
    for line in unread.lines(unread.of_data(data), data=data):
        warn(line)
    about = corpus.about(data)
    if data.in_shards:
        parts = [list(hub_shards.of_split(split)) for split in corpus.splits(data)]
        if data.held_out_split:
            about["held_out"] = len(parts[-1])
        shards = hub_shards.write(chain(*parts), DOCUMENTS, about)
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
        total=data.documents if data.source in ("fineweb", "hub") else None,
        iterable=corpus.documents(data),
    )
    held_out = counted(corpus.held_out(data))
    documents = document.write(counted(found), DOCUMENTS, held_out, about)
    return [f"{documents:,} documents of {characters:,} characters: {DOCUMENTS}"]


if __name__ == "__main__":
    run(download_fineweb)
