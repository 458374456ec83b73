"""All of a FineWeb config, in parts that are read by themselves and in constant memory."""

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dropgpt.corpus.document import Document
from dropgpt.corpus.fineweb import (
    COLUMNS,
    FINEWEB,
    builder,
    cause,
    document_of_row,
    from_process,
    no_hub,
    quiet,
)
from dropgpt.errors import UserError, warn
from dropgpt.machine.files import replacing

SHARD = 100_000  # documents of a shard, in whole row groups
BATCH = 1000  # documents that are in memory at a time
BLOCK = 5 << 20  # bytes asked of the hub at a time
OUTAGE = 1800  # seconds without a document after which the hub counts as gone for good
PAUSE = 60  # seconds between two attempts, at most


class Shard(NamedTuple):
    """A part of a parquet file on the hub: row groups that follow each other."""

    path: str  # of the file in FineWeb's repository
    blob: str  # git's id of the file's content
    first_group: int
    groups: int
    first_document: int  # counted from the first of the config
    documents: int


def of_config(config: str, revision: str, least: int = SHARD) -> Iterator[Shard]:
    """All rows of FineWeb's `config` at `revision` in their order, in parts of `least` or more.

    The last part of a file has what is left. Only the ends of the files are read, where parquet
    has its table of contents. Raises UserError as `fineweb.documents` does.
    """
    return from_process(_shards, config, revision, least)


def write(shards: Iterable[Shard], path: Path) -> list[Shard]:
    """Write the list to a parquet file, a row a shard, and give it back.

    Raises UserError if there is none.
    """
    found = list(shards)
    if not found:
        raise UserError(f"empty corpus: {FINEWEB} has no row in this data.config")
    with replacing(path) as partial:
        pd.DataFrame(found, columns=Shard._fields).to_parquet(partial, index=False)
    return found


def read(path: Path) -> list[Shard]:
    """What `write` wrote. Raises UserError where it is missing or something else."""
    mend = "`dvc repro download_fineweb` makes it"
    if not path.exists():
        raise UserError(f"{path}: no such file; {mend}")
    try:
        table = pd.read_parquet(path, columns=list(Shard._fields))
    except (pa.ArrowException, OSError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{path}: not a list of FineWeb's shards; {mend}: {why}") from None
    return [Shard(*row) for row in table.itertuples(index=False, name=None)]


def documents(shard: Shard, revision: str, patience: float = OUTAGE) -> Iterator[Document]:
    """The documents of `shard`, in constant memory, as `fineweb.documents` gives those rows.

    Where the hub breaks off it is asked again for what is missing. Raises UserError when nothing
    has come for `patience` seconds, where a row has no text, and where the hub has other bytes
    than when the shards were listed.
    """
    given, pause = 0, 1.0
    last = time.monotonic()
    while given < shard.documents:
        try:
            for document in islice(_rows(shard, revision), given, None):
                yield document
                given, pause = given + 1, 1.0
                last = time.monotonic()
        except _HubError as error:
            if time.monotonic() - last > patience:
                raise no_hub(str(error)) from None
            if pause == 1:
                warn(f"{shard.path}: {error}; trying again for {patience:.0f} seconds")
            time.sleep(pause)
            pause = min(2 * pause, PAUSE)


class _HubError(Exception):
    """The hub was gone, broke off or stalled; it may be back later. Says why in a line."""


def _rows(shard: Shard, revision: str) -> Iterator[Document]:
    import huggingface_hub as hub

    quiet()
    n = shard.first_document
    try:
        # Not one from fsspec's cache: it would remember what a hub in trouble has told.
        files = hub.HfFileSystem(skip_instance_cache=True)
        path = f"datasets/{FINEWEB}@{revision}/{shard.path}"
        if files.info(path)["blob_id"] != shard.blob:
            raise _other_bytes(shard)
        # Without pre_buffer, which takes memory by the size of the file, and without Arrow's
        # threads, which may abort the process that leaves a file before its end.
        with (
            files.open(path, block_size=BLOCK) as file,
            pq.ParquetFile(
                file, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True
            ) as table,
        ):
            groups = range(shard.first_group, shard.first_group + shard.groups)
            for batch in table.iter_batches(
                BATCH, row_groups=list(groups), columns=COLUMNS, use_threads=False
            ):
                for row in batch.to_pylist():
                    yield document_of_row(row, n)
                    n += 1
    except UserError:
        raise
    except Exception as error:
        raise _HubError(cause(error)) from None
    if n != shard.first_document + shard.documents:
        raise _other_bytes(shard)


def _other_bytes(shard: Shard) -> UserError:
    return UserError(
        f"{FINEWEB}: {shard.path} is not the file that was listed; "
        "`dvc repro --force download_fineweb` lists anew"
    )


def _shards(config: str, revision: str, least: int, cache: str) -> Iterator[Shard]:
    import huggingface_hub as hub

    files = hub.HfFileSystem()
    place = f"datasets/{FINEWEB}@{revision}/"
    urls = builder(config, revision, cache).config.data_files["train"]
    paths = [url.split("@", 1)[1].split("/", 1)[1] for url in urls]

    def table_of_contents(path: str) -> tuple[str, list[int]]:
        with files.open(place + path) as file, pq.ParquetFile(file) as table:
            known = table.metadata
            rows = [known.row_group(group).num_rows for group in range(known.num_row_groups)]
        return files.info(place + path)["blob_id"], rows

    first = 0
    with ThreadPoolExecutor(16) as pool:
        for path, (blob, rows) in zip(paths, pool.map(table_of_contents, paths), strict=True):
            begin = 0
            for end in range(1, len(rows) + 1):
                if sum(rows[begin:end]) >= least or end == len(rows):
                    documents = sum(rows[begin:end])
                    yield Shard(path, blob, begin, end - begin, first, documents)
                    first += documents
                    begin = end
