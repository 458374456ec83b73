"""A data set's shards on the hub -> those of a token tensor, by processes here or on more machines.

A process takes the first shard that is not there and that no other has: the lock of a file says
so, also on a disk that several machines share. A shard appears whole or not at all. So who makes
it, and how often all were killed meanwhile, changes no byte.

`python -m dropgpt.tokens.shards`, on a further machine, helps a `dvc repro` that runs on another;
see docs/scale.md.
"""

import hashlib
import json
import os
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from threading import Thread
from typing import Any, cast

import tiktoken
from filelock import FileLock, Timeout

from dropgpt import corpus
from dropgpt.corpus import document, hub_shards, splits
from dropgpt.corpus.hub import Dataset
from dropgpt.corpus.hub_shards import Shard
from dropgpt.errors import UserError
from dropgpt.machine import cores, provenance
from dropgpt.machine.files import check_seal
from dropgpt.machine.kept import CHECKPOINTS
from dropgpt.machine.progress import progress
from dropgpt.params import Data, Params, Runtime, Tokenize
from dropgpt.tokens import tensor
from dropgpt.tokens.encoding import encode_documents
from dropgpt.tokens.vocabulary import gpt2_encoding

DOCUMENTS = Path("data/documents.parquet")  # where stage download_fineweb lists the shards
TOKENS = Path("data/tokens")  # where stage tokenize joins them
# Outside of DVC's outputs, which it clears away before a stage: what is made is to outlive a kill.
FOLDER = CHECKPOINTS / "shards"


def make(data: Data, tokenize: Tokenize, runtime: Runtime) -> list[Path]:
    """Make all shards that DOCUMENTS lists, and give their folders in order, for `tensor.join`.

    Those that are there from before and whole are left as they are, if they are of the same
    parameters, list and code. Raises UserError where the hub is gone for long, and where a process
    was killed; what is made stays, and the same call goes on.
    """
    shards = hub_shards.read(DOCUMENTS)
    training, *held_out = splits(data)
    last = document.about(DOCUMENTS).get("held_out", 0)
    datasets = [training] * (len(shards) - last) + held_out * last
    folder = FOLDER / _fingerprint(data, tokenize)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [_path(folder, number) for number in range(len(shards))]
    for path in filter(Path.exists, paths):
        try:
            check_seal(path, "tokenize", [])
        except UserError as error:  # what has happened to it since?
            why = error.__context__
            if isinstance(why, OSError) and not isinstance(why, FileNotFoundError):
                raise why from None  # it cannot be read now, and may be whole
            shutil.rmtree(path, ignore_errors=True)
    settings = tokenize.vocabulary_size, tokenize.end_of_text
    arguments = (list(zip(shards, datasets, strict=True)), folder, *settings)
    workers = min(runtime.threads or cores.number(), len(shards))
    total = sum(shard.documents for shard in shards)
    with progress("tokenize", "documents", runtime.log_interval, total) as bar:

        def look() -> None:
            there = (s.documents for s, path in zip(shards, paths, strict=True) if path.exists())
            bar.update(sum(there) - bar.n)

        look()
        bar.initial = bar.n
        _side_by_side(arguments, workers, look)
    return paths


def forget(paths: list[Path]) -> None:
    """Remove what `make` gave; what another process still has open there, or owns, stays."""
    shutil.rmtree(paths[0].parent, ignore_errors=True)


def _side_by_side(arguments: tuple[Any, ...], workers: int, look: Callable[[], None]) -> None:
    """`_work(*arguments)` in so many processes, till all end; `look` is called now and then."""
    context = get_context("spawn")
    running: dict[Connection, SpawnProcess] = {}  # by the pipe in which each tells of an error
    try:
        for _ in range(workers):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_worker, args=(sender, *arguments), daemon=True)
            process.start()
            sender.close()
            running[receiver] = process
        while running:
            for pipe in cast(list[Connection], wait(list(running), timeout=1)):
                with suppress(EOFError):
                    raise pipe.recv()
                process = running.pop(pipe)
                process.join()
                if process.exitcode:
                    raise UserError(
                        f"tokenize: a process ended with exit code {process.exitcode}; the "
                        "finished shards are kept, and the same command goes on; if memory ran "
                        "out, lower runtime.threads"
                    )
            look()
    finally:
        for process in running.values():
            process.kill()
            process.join()


def _worker(sender: Connection, *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it, too, and sees to us
    Thread(target=_end_with_parent, daemon=True).start()
    code = 1
    try:
        _work(*arguments)
        code = 0
    except Exception as error:
        error.add_note(traceback.format_exc())
        sender.send(error)
    finally:
        os._exit(code)  # without the clean-up in which Arrow's threads may abort


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)


def _work(
    shards: list[tuple[Shard, Dataset]], folder: Path, vocabulary_size: int, end_of_text: bool
) -> None:
    """Make one shard after another of those that nobody else has begun, till all are there."""
    encoding = gpt2_encoding(vocabulary_size)
    missing = dict(enumerate(shards))
    while missing:
        before = len(missing)
        for number, (shard, dataset) in list(missing.items()):
            if not folder.exists():  # all were made, and used
                return
            path = _path(folder, number)
            with suppress(Timeout), FileLock(f"{path}.lock", blocking=False):
                if not path.exists():
                    documents = hub_shards.documents(shard, dataset)
                    encoded = encode_documents(documents, encoding, end_of_text, threads=1)
                    tensor.write_shard(encoded, path)
                del missing[number]
        if len(missing) == before:  # others are at work on all that are left
            time.sleep(1)


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:05}"


def _fingerprint(data: Data, tokenize: Tokenize) -> str:
    """Of all that the shards depend on, which is not what is held out of them."""
    depends_on = {
        "datasets": splits(data),
        "tokenize": tokenize.model_dump(exclude={"validation_fraction"}),
        "documents": provenance.checksum([DOCUMENTS]),
        "code": provenance.code("tokenize"),
        "tiktoken": tiktoken.__version__,
    }
    return hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:16]


def _joined(params: Params) -> bool:
    """Whether data/tokens is there, with the same parameters: then nobody asks for its shards."""
    made = provenance.read(TOKENS).get("tokenize", {}).get("params")
    data, tokenize = corpus.settings(params.data), params.tokenize.model_dump()
    return made == {"data": data, "tokenize": tokenize}


def make_shards(params: Params) -> list[str]:
    """Make what a stage tokenize on another machine will join, or is waiting for."""
    if not params.data.in_shards:
        raise UserError(
            f"params.yaml: data.source {params.data.source} is in shards only where it is fineweb "
            "or hub and data.documents is null; `dvc repro tokenize` needs no help here"
        )
    if _joined(params):
        return [f"{TOKENS} is there already, made with these parameters"]
    make(params.data, params.tokenize, params.runtime)
    return []


if __name__ == "__main__":
    from stages import run  # as a stage: what a user has to mend is told in a line

    run(make_shards)
