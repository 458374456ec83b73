"""Several jobs on one machine: who computes when.

`dvc queue start --jobs 4` starts four trainings. On one GPU they would run out of memory, and on
a CPU each would take all cores from the others.
"""

import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
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
    places, wanted = 1, 1
    if device.type == "cpu":
        places, wanted = threads.CORES, min(threads.number(), threads.CORES)
    folder.mkdir(parents=True, exist_ok=True)
    taking = FileLock(folder / f"{name(device)}.lock")
    locks = [FileLock(folder / f"{name(device)}-{number}.lock") for number in range(places)]
    if (taken := _free(locks, wanted, taking)) is None:
        print(f"{device} is taken by other jobs of this project: waiting", file=sys.stderr)
        while (taken := _free(locks, wanted, taking)) is None:
            time.sleep(PAUSE)
    with taken:
        yield


def name(device: torch.device) -> str:
    """The same in each job, whichever GPUs it may see and whatever number one has there.

    Machines that share the folder have turns of their own.
    """
    number = str(device.index or 0)
    if device.type == "cuda":
        if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
            number = visible.split(",")[int(number)].strip().replace("/", "-")
        # By its own name, since Slurm calls the GPU of each job 0. A slice has the name above.
        if torch.cuda.is_available() and not number.startswith("MIG"):
            number = str(getattr(torch.cuda.get_device_properties(device), "uuid", number))
    return f"{platform.node()}-{device.type}-{number}"


def _free(locks: list[FileLock], wanted: int, taking: FileLock) -> ExitStack | None:
    """So many of `locks`, acquired, or None where they are not free.

    Only who holds `taking` tries, or two jobs would each hold what the other lacks.
    """
    held = 0
    with taking, ExitStack() as stack:
        for lock in locks:
            with suppress(Timeout):
                stack.enter_context(lock.acquire(blocking=False))
                held += 1
            if held == wanted:
                return stack.pop_all()
    return None
