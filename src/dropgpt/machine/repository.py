"""What DVC keeps of this project."""

import json
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

import psutil


def maker(path: Path) -> str | None:
    """The DVC command, "dvc repro" say, that is making `path` or something in it just now.

    None where there is none. DVC removes a stage's outputs before it runs it, and notes in
    .dvc/tmp/rwlock which process writes what.
    """
    path = path.resolve()
    for root in (path, *path.parents):
        with suppress(OSError, ValueError):  # there is no such file, or DVC is writing it
            writers = json.loads((root / ".dvc/tmp/rwlock").read_text()).get("write", {})
            for written, by in writers.items():
                within = Path(written).is_relative_to(path) or path.is_relative_to(written)
                if within and _is_dvc(by["pid"]):
                    return " ".join(["dvc", *takewhile(str.isalpha, by["cmd"].split()[1:])])
    return None


def _is_dvc(pid: int) -> bool:
    """What a DVC that was killed has noted stays there; another process may have its number."""
    try:
        return any("dvc" in word for word in psutil.Process(pid).cmdline())
    except psutil.Error:
        return False
