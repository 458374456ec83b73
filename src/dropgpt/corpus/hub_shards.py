"""All of a data set on the hub, in parts that are read by themselves and in constant memory."""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dropgpt.corpus.document import ABOUT, SHA256, Document, is_string
from dropgpt.corpus.hub import Dataset, builder, files, hint_of_parquet
from dropgpt.corpus.hub_process import cause, from_process, no_hub, not_utf8, quiet, refused
from dropgpt.errors import UserError, of_machine, warn
from dropgpt.machine.files import replacing

SHARD = 100_000  # documents of a shard, in whole row groups
BATCH = 1000  # documents that are in memory at a time
BLOCK = 5 << 20  # bytes asked of the hub at a time
OUTAGE = 1800  # seconds without a document after which the hub counts as gone for good
PAUSE = 60  # seconds between two attempts, at most


class Shard(NamedTuple):
    """A part of a parquet file on the hub: row groups that follow each other."""

    path: str  # of the file in the data set's repository
    blob: str  # git's id of the file's content
    first_group: int
    groups: int
    first_document: int  # its first row, counted from 0 in the split
    documents: int  # its rows, of which those with an empty text are no documents


def of_split(dataset: Dataset, least: int = SHARD) -> Iterator[Shard]:
    """All rows of `dataset` in their order, in parts of `least` or more.

    The last part of a file has what is left. Only the ends of the files are read, where parquet
    has its table of contents. Raises UserError as `hub.documents` does, and where a file is not
    parquet.
    """
    return from_process(dataset.name, _shards, dataset, least)


def write(shards: Iterable[Shard], path: Path, about: dict[str, Any] | None = None) -> list[Shard]:
    """Write the list to a parquet file, a row a shard, and give it back.

    `about` is for `document.about`.
    """
    found = list(shards)
    table = pa.Table.from_pandas(pd.DataFrame(found, columns=Shard._fields), preserve_index=False)
    known = json.dumps(about or {}).encode()
    table = table.replace_schema_metadata(
        table.schema.metadata | {ABOUT: known, SHA256: _checksum(found, known)}
    )
    with replacing(path) as partial:
        pq.write_table(table, partial)
    return found


def read(path: Path) -> list[Shard]:
    """What `write` wrote. Raises UserError where it is missing, damaged or something else.

    So what `document.about` then says of it is what was written, too.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file; `dvc repro download_fineweb` makes it")
    try:
        with pq.ParquetFile(path) as file:
            metadata = file.metadata.metadata or {}
            # `read` alone leaves out a column that is not there.
            columns = file.read(list(Shard._fields)).select(Shard._fields)
        found = list(map(Shard, *(column.to_pylist() for column in columns)))
        if SHA256.encode() not in metadata:
            raise ValueError("it has no checksum, as one of an earlier version")
        if metadata[SHA256.encode()] != _checksum(found, metadata[ABOUT.encode()]):
            raise ValueError("its shards are not those that were written")
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        if of_machine(error):
            raise
        why = " ".join(str(error).split())
        raise UserError(
            f"{path}: not a whole list of shards on the hub: {why}; remove the file, and "
            "`dvc repro download_fineweb` makes it again"
        ) from None
    return found


def _checksum(shards: list[Shard], about: bytes) -> bytes:
    """Of all that a list says, in hexadecimal."""
    return hashlib.sha256(json.dumps(shards).encode() + about).hexdigest().encode()


def documents(shard: Shard, dataset: Dataset, patience: float = OUTAGE) -> Iterator[Document]:
    """The documents of `shard`, in constant memory, as `hub.documents` gives those rows.

    Where the hub breaks off it is asked again for what is missing. Raises UserError when nothing
    has come for `patience` seconds, where a row has no text, and where the hub has other bytes
    than when the shards were listed.
    """
    read, pause = 0, 1.0  # rows, seconds
    last = time.monotonic()
    while read < shard.documents:
        try:
            for document in islice(_rows(shard, dataset), read, None):
                if document:
                    yield document
                read, pause = read + 1, 1.0
                last = time.monotonic()
        except _HubError as error:
            if time.monotonic() - last > patience:
                raise no_hub(dataset.name, str(error)) from None
            if pause == 1:
                warn(f"{shard.path}: {error}; trying again for {patience:.0f} seconds")
            time.sleep(pause)
            pause = min(2 * pause, PAUSE)


class _HubError(Exception):
    """The hub was gone, broke off or stalled; it may be back later. Says why in a line."""


def _rows(shard: Shard, dataset: Dataset) -> Iterator[Document | None]:
    import huggingface_hub as hub

    quiet()
    n = shard.first_document
    try:
        # Not one from fsspec's cache: it would remember what a hub in trouble has told.
        files = hub.HfFileSystem(skip_instance_cache=True)
        path = f"datasets/{dataset.name}@{dataset.revision}/{shard.path}"
        if files.info(path)["blob_id"] != shard.blob:
            raise _other_bytes(shard, dataset)
        # Without pre_buffer, which takes memory by the size of the file, and without Arrow's
        # threads, which may abort the process that leaves a file before its end.
        with (
            files.open(path, block_size=BLOCK) as file,
            pq.ParquetFile(
                file, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True
            ) as table,
        ):
            groups = range(shard.first_group, shard.first_group + shard.groups)
            columns = dataset.columns(table.schema_arrow.names)
            for batch in table.iter_batches(
                BATCH, row_groups=list(groups), columns=columns, use_threads=False
            ):
                for row in _each(batch):
                    yield dataset.document(row, n)
                    n += 1
    except UserError:
        raise
    except UnicodeDecodeError as error:
        raise not_utf8(dataset.name, f"row {n}, in {shard.path},", error) from None
    except Exception as error:
        if of_machine(error):
            raise
        raise refused(dataset.name, error) or _HubError(cause(error)) from None
    if n != shard.first_document + shard.documents:
        raise _other_bytes(shard, dataset)


def _each(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Its rows, up to one that holds bytes that are not UTF-8: there it raises."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for n in range(batch.num_rows):  # slower
            yield from batch.slice(n, 1).to_pylist()


def _other_bytes(shard: Shard, dataset: Dataset) -> UserError:
    return UserError(
        f"{dataset.name}: {shard.path} is not the file that was listed; "
        "`dvc repro --force download_fineweb` lists anew"
    )


def _shards(dataset: Dataset, least: int, cache: str) -> Iterator[Shard]:
    import huggingface_hub as hub

    on_hub = hub.HfFileSystem()
    place = f"datasets/{dataset.name}@{dataset.revision}/"
    found = builder(dataset, cache)
    paths = files(found, dataset.split)
    for path in paths:
        if not path.endswith(".parquet"):
            hint = hint_of_parquet(dataset, dataset.config or found.config.name)
            raise UserError(
                f"data.documents is empty, for which a data set must be in parquet, and "
                f"{dataset.name} has {path}; set data.documents to a number{hint}"
            )

    def table_of_contents(path: str) -> tuple[str, list[int]]:
        with on_hub.open(place + path) as file, pq.ParquetFile(file) as table:
            dataset.columns(table.schema_arrow.names)
            kind = table.schema_arrow.field(dataset.text_column).type
            if not is_string(kind):
                raise dataset.no_text("", str(kind))
            known = table.metadata
            rows = [known.row_group(group).num_rows for group in range(known.num_row_groups)]
        return on_hub.info(place + path)["blob_id"], rows

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
    if not first:
        raise UserError(f"split {dataset.split} of {dataset.name} has no document")
