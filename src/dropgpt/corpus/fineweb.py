"""FineWeb, streamed from the Hugging Face hub."""

import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import RLock
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dropgpt.corpus.document import Document
from dropgpt.errors import UserError, warn
from dropgpt.machine.files import replacing

FINEWEB = "HuggingFaceFW/fineweb"
PATIENCE = 50  # seconds without a document after which the hub counts as gone
COLUMNS = ["text", "id", "url"]
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


def documents(number: int, config: str, revision: str) -> Iterator[Document]:
    """The first `number` rows of FineWeb's `config` at `revision`, in their order.

    Raises UserError if the hub cannot be reached, breaks off or stalls, lacks the config or the
    revision, or has fewer rows. Nothing ever stands in for what was asked for.
    """
    n = 0
    for document in _from_process(_fineweb_rows, number, config, revision):
        yield document
        n += 1
    if n < number:
        raise UserError(
            f"data.documents is {number}, but config {config} of {FINEWEB} has only {n}; lower "
            "it, or choose a larger data.config"
        )


def shards(config: str, revision: str, least: int = SHARD) -> Iterator[Shard]:
    """All rows of FineWeb's `config` at `revision` in their order, in parts of `least` or more.

    The last part of a file has what is left. Only the ends of the files are read, where parquet
    has its table of contents. Raises UserError as `documents` does.
    """
    return _from_process(_shards, config, revision, least)


def write_shards(shards: Iterable[Shard], path: Path) -> list[Shard]:
    """Write the list to a parquet file, a row a shard, and give it back.

    Raises UserError if there is none.
    """
    found = list(shards)
    if not found:
        raise UserError(f"empty corpus: {FINEWEB} has no row in this data.config")
    with replacing(path) as partial:
        pd.DataFrame(found, columns=Shard._fields).to_parquet(partial, index=False)
    return found


def read_shards(path: Path) -> list[Shard]:
    """What `write_shards` wrote. Raises UserError where it is missing or something else."""
    mend = "`dvc repro download_fineweb` makes it"
    if not path.exists():
        raise UserError(f"{path}: no such file; {mend}")
    try:
        table = pd.read_parquet(path, columns=list(Shard._fields))
    except (pa.ArrowException, OSError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{path}: not a list of FineWeb's shards; {mend}: {why}") from None
    return [Shard(*row) for row in table.itertuples(index=False, name=None)]


def shard_documents(shard: Shard, revision: str, patience: float = OUTAGE) -> Iterator[Document]:
    """The documents of `shard`, in constant memory; the same as `documents` gives of those rows.

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
                raise _no_hub(str(error)) from None
            if pause == 1:
                warn(f"{shard.path}: {error}; trying again for {patience:.0f} seconds")
            time.sleep(pause)
            pause = min(2 * pause, PAUSE)


class _HubError(Exception):
    """The hub was gone, broke off or stalled; it may be back later. Says why in a line."""


def _rows(shard: Shard, revision: str) -> Iterator[Document]:
    import huggingface_hub as hub

    _quiet()
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
                    yield _document(row, n)
                    n += 1
    except UserError:
        raise
    except Exception as error:
        raise _HubError(_cause(error)) from None
    if n != shard.first_document + shard.documents:
        raise _other_bytes(shard)


def _other_bytes(shard: Shard) -> UserError:
    return UserError(
        f"{FINEWEB}: {shard.path} is not the file that was listed; "
        "`dvc repro --force download_fineweb` lists anew"
    )


def _document(row: dict[str, Any], n: int) -> Document:
    """Of row `n` of the config."""
    if not isinstance(row["text"], str):
        raise UserError(f"row {n} of {FINEWEB} has no text")
    id = row["id"] or f"fineweb:{n}"
    return Document(row["text"], id, row["url"] or id)


def _from_process(work: Callable[..., Iterator[Any]], *arguments: Any) -> Iterator[Any]:
    """What `work(*arguments, cache)` gives, in a process of its own; `cache` is an empty folder."""
    # Some waits inside `datasets` have no limit, and Arrow's threads may abort the process that
    # leaves a stream before its end (apache/arrow#45214).
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    with TemporaryDirectory() as cache:
        process = context.Process(target=_send, args=(sender, work, *arguments, cache), daemon=True)
        process.start()
        sender.close()
        try:
            while True:
                if not receiver.poll(PATIENCE):
                    raise _no_hub(f"nothing came for {PATIENCE} seconds")
                message = receiver.recv()
                if isinstance(message, UserError):
                    raise message
                if message is None:
                    break
                yield message
        except (EOFError, OSError):
            raise _no_hub("the process that reads it was killed") from None
        finally:
            process.kill()
            process.join()


def _send(sender: Connection, work: Callable[..., Iterator[Any]], *arguments: Any) -> None:
    """Send all that `work` gives, then None; or the UserError that ended it."""
    try:
        for one in work(*arguments):
            sender.send(one)
        sender.send(None)
    except UserError as error:
        sender.send(error)
    except Exception as error:
        sender.send(_no_hub(_cause(error)))
    finally:
        os._exit(0)  # without the clean-up in which Arrow's threads may abort


def _fineweb_rows(number: int, config: str, revision: str, cache: str) -> Iterator[Document]:
    stream = _builder(config, revision, cache).as_streaming_dataset("train")
    for n, row in enumerate(stream.select_columns(COLUMNS).take(number)):
        yield _document(row, n)


def _shards(config: str, revision: str, least: int, cache: str) -> Iterator[Shard]:
    import huggingface_hub as hub

    files = hub.HfFileSystem()
    place = f"datasets/{FINEWEB}@{revision}/"
    urls = _builder(config, revision, cache).config.data_files["train"]
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


def _builder(config: str, revision: str, cache: str) -> Any:
    """FineWeb as `datasets` knows it, from the hub and nowhere else."""
    # Slow to import, and it is then that they read HF_ENDPOINT and the like.
    import datasets
    import huggingface_hub as hub
    import tqdm

    _quiet()
    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity(logging.CRITICAL)
    tqdm.tqdm.set_lock(RLock())  # not its own, a semaphore that would outlive a killed process
    # The hub's client makes six attempts at each request, within 23 seconds and without our
    # asking. `datasets` would make twenty times six.
    for setting in "STREAMING_OPEN", "STREAMING_READ":
        setattr(datasets.config, f"{setting}_MAX_RETRIES", 1)
        setattr(datasets.config, f"{setting}_RETRY_INTERVAL", 0)
    try:
        # A single attempt, so that a hub out of reach shows at once.
        readme = hub.hf_hub_url(FINEWEB, "README.md", repo_type="dataset", revision=revision)
        hub.get_hf_file_metadata(readme)
        # Where the hub fails it, `datasets` takes what it finds in its cache, of any revision, and
        # before it asks the hub, a local folder of that name: hence an empty cache and hf://.
        return datasets.load_dataset_builder(
            f"hf://datasets/{FINEWEB}", name=config, revision=revision, cache_dir=cache
        )
    except hub.errors.RevisionNotFoundError:
        raise UserError(f"data.revision is {revision!r}, which {FINEWEB} does not have") from None
    except ValueError as error:
        if "BuilderConfig" not in str(error):
            raise
        raise UserError(
            f"data.config is {config!r}, which {FINEWEB} does not have at {revision}"
        ) from None


def _quiet() -> None:
    from huggingface_hub.utils.logging import set_verbosity

    set_verbosity(logging.CRITICAL)  # what it logs may hold a signed URL; we say the one line


def _no_hub(why: str) -> UserError:
    from huggingface_hub.constants import ENDPOINT

    return UserError(
        f"cannot read {FINEWEB} from {_public(ENDPOINT)}: {why}; "
        "without the hub, `dvc exp run -S data.source=wikipedia` runs offline"
    )


def _cause(error: BaseException) -> str:
    """What is at the bottom of `error`, in one line that anyone may see."""
    while error.__cause__:
        error = error.__cause__
    return _public(f"{type(error).__name__}: {error}".split("\n")[0]).rstrip(" .")


def _public(text: str) -> str:
    """`text` without the credentials that a URL or a header in it may hold."""
    text = re.sub(r"(?<=://)[^/\s@]*@", "", text)  # user and password
    text = re.sub(r"(://[^\s?'\"]*)\?[^\s'\"]*", r"\1", text)  # a signature in the query
    return re.sub(r"(hf_|Bearer )[^\s'\"]+", r"\1***", text)
