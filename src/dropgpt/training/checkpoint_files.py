"""The files that trainings keep in `checkpoints/`, each by the fingerprint of its training."""

import hashlib
import re
import sys
from contextlib import suppress
from pathlib import Path
from shutil import disk_usage

from filelock import FileLock, Timeout
from safetensors import safe_open

from dropgpt.machine.kept import CHECKPOINTS, ENDED
from dropgpt.training.state import State

FOLDER = CHECKPOINTS
COMPILED = FOLDER / "compiled"  # where torch.compile keeps what it made, for the next training
# A file of a training, or what a kill has left of one; what else lies there is a user's.
OWN = re.compile(r"\.?([0-9a-f]{16})\.(safetensors|json|lock)(\.dropgpt-partial)?")


def stale(folder: Path = FOLDER) -> list[str]:
    """The fingerprints of the trainings that left something and do not run, oldest first."""
    left = {own[1] for path in folder.glob("*") if (own := OWN.fullmatch(path.name))}
    by_date = sorted(left, key=lambda fingerprint: changed(fingerprint, folder))
    return [one for one in by_date if not _in_use(folder / f"{one}.lock")]


def files(fingerprint: str, folder: Path = FOLDER) -> list[Path]:
    """All that a training has left."""
    found = folder.glob(f"*{fingerprint}.*")
    return [path for path in found if OWN.fullmatch(path.name)]


def remove(fingerprint: str, folder: Path = FOLDER) -> None:
    """Remove all that a training has left."""
    for file in files(fingerprint, folder):
        file.unlink(missing_ok=True)


def make_room(folder: Path, kept: int) -> None:
    """Remove the oldest, but never the newest `kept`, while all take more than the disk has left.

    Only those that do not run are looked at.
    """
    left = stale(folder)
    while len(left) > kept and sum(size(one, folder) for one in left) > disk_usage(folder).free:
        oldest = left.pop(0)
        print(f"{folder}: {oldest} removed, since the disk has little room left", file=sys.stderr)
        remove(oldest, folder)


def size(fingerprint: str, folder: Path) -> int:
    """Of all that a training has left, in bytes."""
    with suppress(FileNotFoundError):
        return sum(file.stat().st_size for file in files(fingerprint, folder))
    return 0  # its training has just ended


def remove_ended() -> None:
    """Remove the last states of all trainings that have ended."""
    for fingerprint in stale(FOLDER / ENDED):
        remove(fingerprint, FOLDER / ENDED)


def changed(fingerprint: str, folder: Path) -> float:
    with suppress(FileNotFoundError):
        return max((file.stat().st_mtime for file in files(fingerprint, folder)), default=0.0)
    return 0.0  # its training has just ended


def _in_use(lock: Path) -> bool:
    try:
        with FileLock(lock).acquire(blocking=False):
            return False
    except Timeout:
        return True


def read_metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def digest(state: State) -> str:
    """A checksum of all names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.numpy().reshape(-1).view("uint8").data)
    return digest.hexdigest()
