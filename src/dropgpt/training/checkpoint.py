"""Training state, saved atomically and found again by all that the training depends on.

`python -m dropgpt.training.checkpoint` lists the checkpoints of interrupted trainings, and with
`--remove` removes them.
"""

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as deserialised
from safetensors.torch import save as serialised

from dropgpt.errors import UserError
from dropgpt.machine.files import replacing
from dropgpt.params import Params
from dropgpt.params import load as load_params
from dropgpt.training.state import State

# DVC keeps experiments apart from each other; a checkpoint is to outlive the folder of one.
FOLDER = Path(os.environ.get("DVC_ROOT", ".")) / "checkpoints"
KEPT = 10  # checkpoints of other trainings; the oldest make room
SHARE = 0.02  # of the time, at most, goes into saving


class Checkpoint:
    """Where one training keeps its state."""

    def __init__(self, path: Path, interval: float, inputs: dict[str, Any]) -> None:
        """`interval` is in seconds; `inputs` are told when checkpoints are listed."""
        self.path = path
        self.interval = interval
        self.inputs = inputs
        self.due_at = time.monotonic() + interval

    def due(self) -> bool:
        """Whether it is time to save again.

        That is after `interval`, or longer where saving would take more than SHARE of the time;
        with an interval of 0, always.
        """
        return time.monotonic() >= self.due_at

    def save(self, state: State, step: int) -> None:
        """Put `state`, after `step` updates, in the place of the last one saved."""
        start = time.monotonic()
        metadata = {
            "sha256": _digest(state),
            "step": str(step),
            "inputs": json.dumps(self.inputs, sort_keys=True),
        }
        with replacing(self.path) as partial:
            # Not save_file, which hides from us that a disk is full.
            partial.write_bytes(serialised(state, metadata))
        now = time.monotonic()
        if self.interval:
            self.due_at = now + max(self.interval, (now - start) / SHARE)

    def load(self) -> State | None:
        """What was last saved; None where nothing was, or where it is damaged, which is said."""
        if not self.path.exists():
            return None
        try:
            metadata = _metadata(self.path)
            state = deserialised(self.path.read_bytes())
            if _digest(state) != metadata.get("sha256"):
                raise ValueError("its content is not what was saved")
        except (OSError, ValueError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200]
            print(f"{self.path} is damaged ({reason}): starting over", file=sys.stderr)
            return None
        return state


@contextmanager
def of_training(
    inputs: dict[str, Any], interval: float, folder: Path = FOLDER
) -> Iterator[Checkpoint]:
    """The checkpoint of the training that depends on `inputs`, and on nothing else.

    It belongs to this process until the block ends, and is removed when the block succeeds.
    """
    fingerprint = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{fingerprint}.lock")
    try:
        held = lock.acquire(blocking=False)
    except Timeout:
        print("another process trains this very model: waiting for its end", file=sys.stderr)
        held = lock.acquire()
    with held:
        for other in stale(folder)[:-KEPT]:
            print(f"{folder}: {other} removed, since {KEPT} newer ones are kept", file=sys.stderr)
            remove(other, folder)
        yield Checkpoint(folder / f"{fingerprint}.safetensors", interval, inputs)
        remove(fingerprint, folder)


def stale(folder: Path = FOLDER) -> list[str]:
    """The fingerprints of the trainings that left something and do not run, oldest first."""
    left = {file.name.split(".")[0] for file in folder.glob("*.*")}
    by_date = sorted(left, key=lambda fingerprint: _changed(fingerprint, folder))
    return [one for one in by_date if not _in_use(folder / f"{one}.lock")]


def remove(fingerprint: str, folder: Path = FOLDER) -> None:
    """Remove all that a training has left."""
    for file in folder.glob(f"{fingerprint}.*"):
        file.unlink(missing_ok=True)


def described(fingerprint: str, params: Params, folder: Path = FOLDER) -> str:
    """A checkpoint in a line: name, date, size, progress, and how it differs from `params`."""
    date = datetime.fromtimestamp(_changed(fingerprint, folder))
    size = sum(file.stat().st_size for file in folder.glob(f"{fingerprint}.*")) / 1e6
    line = f"{fingerprint}  {date:%Y-%m-%d %H:%M}  {size:.0f} MB"
    try:
        metadata = _metadata(folder / f"{fingerprint}.safetensors")
        inputs = json.loads(metadata["inputs"])
    except (OSError, ValueError, KeyError, SafetensorError):
        return f"{line}  nothing whole"
    differing = [
        f"{section}.{key}={value}"
        for section in ("model", "train")
        for key, value in inputs[section].items()
        if getattr(params, section).model_dump().get(key) != value
    ]
    return "  ".join([f"{line}  step {metadata['step']} of {inputs['train']['steps']}", *differing])


def _changed(fingerprint: str, folder: Path) -> float:
    with suppress(FileNotFoundError):
        return max((file.stat().st_mtime for file in folder.glob(f"{fingerprint}.*")), default=0.0)
    return 0.0  # its training has just ended


def _in_use(lock: Path) -> bool:
    try:
        with FileLock(lock).acquire(blocking=False):
            return False
    except Timeout:
        return True


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def _digest(state: State) -> str:
    """A checksum of all names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.numpy().reshape(-1).view("uint8").data)
    return digest.hexdigest()


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m dropgpt.training.checkpoint", description=__doc__
    )
    parser.add_argument("--remove", action="store_true", help="remove them all")
    arguments = parser.parse_args()
    try:
        params = load_params(Path("params.yaml"))
    except UserError as error:
        sys.exit(f"error: {error}")
    for fingerprint in stale():
        print(described(fingerprint, params), *["removed"] * arguments.remove, sep="  ")
        if arguments.remove:
            remove(fingerprint)


if __name__ == "__main__":
    _main()
