"""Training state, saved atomically and found again by all that the training depends on.

`python -m dropgpt.training.checkpoint` lists the checkpoints of trainings that were interrupted
or have ended, and with `--remove` removes them.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load as deserialised
from safetensors.torch import save as serialised

from dropgpt.errors import UserError, of_machine
from dropgpt.machine import kept, processes
from dropgpt.machine.files import replacing
from dropgpt.machine.kept import ENDED
from dropgpt.machine.streams import make_unbreakable
from dropgpt.params import Params
from dropgpt.params import load as load_params
from dropgpt.training import kin
from dropgpt.training.checkpoint_files import (
    FOLDER,
    changed,
    digest,
    make_room,
    read_metadata,
    remove,
    size,
    stale,
)
from dropgpt.training.state import State

KEPT = 10  # newest checkpoints of other trainings that stay also where the disk is nearly full
ENDED_KEPT = 3  # of those; they are as large, and only of use where more steps are wanted
LOOK = 60  # seconds between two words to other processes, while all wait
SHARE = 0.02  # of the time, at most, goes into saving


class Checkpoint:
    """Where one training keeps its state."""

    def __init__(self, path: Path, interval: float, inputs: dict[str, Any]) -> None:
        """`interval` is in seconds; `inputs` are told when checkpoints are listed."""
        self.path = path
        self.interval = interval
        self.inputs = deepcopy(inputs)
        self.due_at = time.monotonic() + interval
        # In how many processes the training is made; one more wherever it went on in another.
        self.processes = [processes.number()]
        self.taken_over: Path | None = None  # what another number of processes has saved
        self.stays = False  # when the training has ended; see `end`

    def due(self) -> bool:
        """Whether it is time to save again.

        That is after `interval`, or longer where saving would take more than SHARE of the time;
        with an interval of 0, always.
        """
        return time.monotonic() >= self.due_at

    def save(self, state: State, step: int) -> None:
        """Put `state`, after `step` updates, in the place of the last one saved."""
        start = time.monotonic()
        self._write(self.path, state, step=str(step))
        now = time.monotonic()
        if self.interval:
            self.due_at = now + max(self.interval, (now - start) / SHARE)

    def end(self) -> None:
        """Keep the state of a training that has ended until `kept.settle` knows its result safe.

        And then for one of more steps; see `load`. Where its schedules follow the number of steps,
        only that it has been is kept for that.
        """
        self.stays = True
        ended = self.path.parent / ENDED
        with suppress(OSError):  # which costs nothing but what is said then
            ended.mkdir(exist_ok=True)
            for other in stale(ended)[: 1 - ENDED_KEPT]:  # this one is to come
                remove(other, ended)
            if kin.follows_steps(self.inputs):
                steps, _ = kin.apart(self.inputs)
                self._write(ended / self.path.name, {}, step=str(steps))

    def _write(self, path: Path, state: State, **facts: str) -> None:
        inputs = json.dumps(self.inputs, sort_keys=True)
        state = state | {"processes": torch.tensor(self.processes)}
        with replacing(path) as partial:
            # Not save_file, which hides from us that a disk is full.
            partial.write_bytes(
                serialised(state, {"sha256": digest(state), "inputs": inputs} | facts)
            )

    def load(self) -> State | None:
        """What was saved after the most steps, by as many processes or by others.

        It may be the last state of the same training with fewer steps. None where there is none,
        or where it is damaged, which is said.
        """
        path = self._furthest()
        if path is None:
            kin.tell_of_other_environment(self.path, self.inputs)
            return None
        try:
            metadata = read_metadata(path)
            state = deserialised(path.read_bytes())
            if digest(state) != metadata.get("sha256"):
                raise ValueError("its content is not what was saved")
        except (OSError, ValueError, SafetensorError) as error:
            if of_machine(error):
                raise
            reason = " ".join(str(error).split())[:200]
            print(f"{path} is damaged ({reason}): starting over", file=sys.stderr)
            return None
        before = state.pop("processes").tolist()
        self.processes = before + [n for n in self.processes if n != before[-1]]
        return state

    def _furthest(self) -> Path | None:
        """The state that has come furthest; the own one before others of as many steps."""
        own = self.path if self.path.exists() else None
        other = kin.in_other_processes(self.path, self.inputs)
        found = [path for path in (own, other) if path]
        # Of a training that begins anew with each number of steps it only says so.
        if not (found and kin.follows_steps(self.inputs)):
            shorter = kin.with_fewer_steps(self.path, self.inputs)
            found += [shorter] if shorter else []
        path = max(found, key=kin.steps_made, default=None)
        self.taken_over = other if path == other else None
        return path


class Elsewhere(Checkpoint):
    """Of a process that leaves the saving to the first one."""

    def due(self) -> bool:
        return False

    def save(self, state: State, step: int) -> None:
        pass

    def load(self) -> State | None:
        return None


@contextmanager
def of_training(
    inputs: dict[str, Any], interval: float, folder: Path = FOLDER
) -> Iterator[Checkpoint]:
    """The checkpoint of the training that depends on `inputs`, and on nothing else.

    It belongs to this process until the block ends, and is removed when the block succeeds, unless
    it `stays`. Of several processes only the first one has it.
    """
    fingerprint = kept.fingerprint(inputs)
    lock = FileLock(folder / f"{fingerprint}.lock")
    if processes.rank():
        _acquire(None)
        yield Elsewhere(folder / "none", interval, inputs)
        return
    folder.mkdir(parents=True, exist_ok=True)
    _acquire(lock)
    try:
        make_room(folder, KEPT)
        saved = Checkpoint(folder / f"{fingerprint}.safetensors", interval, inputs)
        yield saved
        with suppress(OSError):  # its result is there
            if not saved.stays:
                remove(fingerprint, folder)
            if saved.taken_over:
                remove(saved.taken_over.stem, folder)
    finally:
        lock.release()


def _acquire(lock: FileLock | None) -> None:
    """Wait until no other training has the lock, which only the first process asks for.

    All of them wait together, and now and then hear from each other: who hears nothing counts the
    others as lost.
    """
    told = False
    held = lock is None
    while True:
        if lock:
            with suppress(Timeout):
                held = bool(lock.acquire(timeout=LOOK if told else 0))
        if processes.from_first(held):
            return
        if lock and not told:
            print("another process trains this very model: waiting for its end", file=sys.stderr)
        told = True


def described(fingerprint: str, params: Params, folder: Path = FOLDER) -> str:
    """A checkpoint in a line: name, date, size, progress, and how it differs from `params`."""
    date = datetime.fromtimestamp(changed(fingerprint, folder))
    megabytes = size(fingerprint, folder) / 1e6
    line = f"{fingerprint}  {date:%Y-%m-%d %H:%M}  {megabytes:.0f} MB"
    try:
        metadata = read_metadata(folder / f"{fingerprint}.safetensors")
        trained_with = json.loads(metadata["inputs"])["train"]["params"]
    except (OSError, ValueError, KeyError, SafetensorError):
        return f"{line}  nothing whole"
    differing = [
        f"{section}.{key}={value}"
        for section in ("model", "train")
        for key, value in trained_with[section].items()
        if getattr(params, section).model_dump().get(key) != value
    ]
    return "  ".join(
        [
            f"{line}  step {metadata['step']} of {trained_with['train']['steps']}",
            *differing,
        ]
    )


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
    make_unbreakable()  # what is to be removed goes, whoever reads of it
    try:
        for folder in (FOLDER, FOLDER / ENDED):
            for fingerprint in stale(folder):
                line = described(fingerprint, params, folder)
                if arguments.remove:
                    remove(fingerprint, folder)
                print(line, *["removed"] * arguments.remove, sep="  ")
    except OSError as error:  # a lock that cannot be tried may be a running training's
        sys.exit(f"error: {error.filename}: {error.strerror}; let this user write to {FOLDER}")


if __name__ == "__main__":
    _main()
