"""The laboratory's dvc.yaml, and what DVC says of it."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dropgpt.errors import UserError
from dropgpt.machine.files import replacing
from dropgpt.machine.repository import read_lock, write_lock
from laboratory.first.plan import Plan

PIPELINE = Path("laboratory/first/dvc.yaml")
LOCK = Path("laboratory/first/dvc.lock")
KEPT = Path(".dvc/tmp/laboratory-first.lock")  # the copy of LOCK


def stage(chosen: Plan, variant: str, seed: int) -> str:
    """The name in the pipeline of the stage that makes this run."""
    return f"{chosen.group(variant)}@{variant}-{seed}"


def repro(name: str = "") -> None:
    """With its output where the user sees it."""
    target = f"{PIPELINE}:{name}" if name else PIPELINE.as_posix()
    if subprocess.run([sys.executable, "-m", "dvc", "repro", target]).returncode:
        raise UserError(f"laboratory: `dvc repro {target}` failed, as it says above")


def dvc(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"laboratory: `dvc {' '.join(arguments)}` failed: {reason(done.stderr)}")
    return done.stdout


@contextmanager
def kept_lock() -> Iterator[Callable[[], None]]:
    """Give what keeps a copy of LOCK, which DVC writes in place: a `kill -9` could lose it.

    The copy goes when the block ends well. Else it stays, and `mend_lock` puts back what LOCK lost.
    """

    kept = mend_lock()
    write(KEPT, kept)

    def keep() -> None:
        nonlocal kept
        kept = joined(kept, read_lock(LOCK))
        write(KEPT, kept)

    yield keep
    KEPT.unlink()


def mend_lock() -> dict[str, Any]:
    """Put back into LOCK what a kill tore off it, as KEPT has that; all that LOCK then says."""
    now = read_lock(LOCK)
    whole = joined(read_lock(KEPT), now)
    if LOCK.exists() and whole != now:
        print(f"{LOCK} is torn, as by a kill: what it had lost is back", file=sys.stderr)
        write(LOCK, whole)
    return whole


def joined(kept: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The stages of a lock as it is `now`, and those that it has lost, as they were `kept`."""
    if kept.keys() - now.keys():  # it broke off in the last one; the rest may be whole YAML
        now = dict(list(now.items())[:-1])
    return kept | now


def write(lock: Path, found: dict[str, Any]) -> None:
    with replacing(lock) as partial:
        write_lock(partial, found)


def reason(said: str) -> str:
    """The line in which a program says why it failed, or its last one."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("error: ", "ERROR: "))]
    return (errors or lines or ["it said nothing"])[0 if errors else -1]
