"""Several jobs on one machine: who computes when.

`dvc queue start --jobs 4` starts four trainings. On one GPU they would run out of memory, and on
a CPU each would take all cores from the others.
"""

import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from dropgpt.machine import threads, torchrun

# One folder for all copies of the project in which DVC runs experiments; DVC and git ignore it.
FOLDER = Path(os.environ.get("DVC_ROOT", "."), ".dvc", "tmp", "slots")
PAUSE = 0.5  # seconds between two tries


@contextmanager
def slot(device: torch.device, folder: Path = FOLDER) -> Iterator[None]:
    """A turn on `device`, waited for and given back when the block, or the process, ends.

    A GPU is for one job at a time; a CPU is for as many as its cores have threads to give:
    on 8 cores, two jobs with a `runtime.threads` of 4, and one where it is null. The processes
    that torchrun starts have theirs already; see `machine.launch`.
    """
    if torchrun.started():
        yield
        return
    slots = max(1, threads.CORES // threads.number()) if device.type == "cpu" else 1
    folder.mkdir(parents=True, exist_ok=True)
    locks = [FileLock(folder / f"{name(device)}-{number}.lock") for number in range(slots)]
    if (taken := _free(locks)) is None:
        print(f"{device} is taken by other jobs of this project: waiting", file=sys.stderr)
        while (taken := _free(locks)) is None:
            time.sleep(PAUSE)
    with taken:
        yield


def name(device: torch.device) -> str:
    """The same in each job, whichever GPUs it may see and whatever number one has there.

    Machines that share the folder have turns of their own.
    """
    number = str(device.index or 0)
    if device.type == "cuda" and (visible := os.environ.get("CUDA_VISIBLE_DEVICES")):
        number = visible.split(",")[int(number)].strip().replace("/", "-")
    return f"{platform.node()}-{device.type}-{number}"


def _free(locks: list[FileLock]) -> AbstractContextManager[FileLock] | None:
    """One of `locks`, acquired, or None."""
    for lock in locks:
        with suppress(Timeout):
            return lock.acquire(blocking=False)
    return None
