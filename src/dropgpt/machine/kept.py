"""What took long to find, kept by a checksum of all that it depends on.

It only spares the work: with what is kept, with nothing, and with damage the same is found.
"""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from dropgpt.machine.files import replacing, sha256
from dropgpt.machine.repository import original

# DVC keeps experiments apart from each other; what is kept is to outlive the folder of one.
CHECKPOINTS = original() / "checkpoints"
ENDED = "ended"  # the folder within for the last states of trainings that have ended
FOLDER = CHECKPOINTS / "measured"
NEWEST = 100  # tables that stay
DIGEST = hashlib.sha256().digest_size
PACKAGE = Path(__file__).parent.parent


def table(depends_on: dict[str, Any], find: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """What `find` gives; kept, where it was found before by the same code for `depends_on`.

    `depends_on`, which JSON can hold, must name everything that may change a bit of it.
    """
    named = json.dumps(depends_on | {"code": _code()}, sort_keys=True)
    file = FOLDER / hashlib.sha256(named.encode()).hexdigest()
    with suppress(OSError):
        content = file.read_bytes()
        if hashlib.sha256(content[DIGEST:]).digest() == content[:DIGEST]:
            os.utime(file)  # what is in use is not old
            return pd.read_parquet(BytesIO(content[DIGEST:]))
    found = find()
    content = found.to_parquet(index=False)
    with suppress(OSError):  # a full disk, say: then it is found again the next time
        with replacing(file) as partial:
            partial.write_bytes(hashlib.sha256(content).digest() + content)
        by_date = sorted(FOLDER.iterdir(), key=lambda path: path.stat().st_mtime)
        for old in by_date[:-NEWEST]:
            old.unlink(missing_ok=True)
    return found


def fingerprint(inputs: dict[str, Any]) -> str:
    """The name, in CHECKPOINTS, of what depends on these."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def settle(made_from: dict[str, Any], folder: Path = CHECKPOINTS) -> None:
    """Let go of the last state of the training in this chain: another stage reads its result.

    Before that DVC may have failed to take the result into its cache, on a full disk say, and may
    have cleared it away. What the training itself has put among the ended ones stays, else this.
    """
    inputs = json.loads(json.dumps(made_from))
    environment = inputs["train"]["environment"]
    # Where it went on in another number of processes all are told, and the last ones have saved it.
    if isinstance(number := environment.get("processes"), list):
        environment |= {"processes": number[-1]}
        if number[-1] == 1:
            del environment["processes"]
    name = fingerprint(inputs)
    state, lock = (folder / f"{name}.{ending}" for ending in ("safetensors", "lock"))
    # Else it is being trained again, or nothing may be written here.
    with suppress(OSError, Timeout), FileLock(lock, blocking=False):
        if state.exists() and not (ended := folder / ENDED / state.name).exists():
            ended.parent.mkdir(exist_ok=True)
            state.rename(ended)
        state.unlink(missing_ok=True)
        lock.unlink(missing_ok=True)


def _code() -> str:
    """A checksum of all code of this package."""
    files = sorted(PACKAGE.rglob("*.py"))
    sums = [(file.relative_to(PACKAGE).as_posix(), sha256(file)) for file in files]
    return hashlib.sha256(json.dumps(sums).encode()).hexdigest()
