"""Make what is missing, with a worker for each core, and judge: `python -m laboratory.first`

Each worker is a `dvc repro` of one run. So what has been made is what DVC says has been made, and
a laboratory that was stopped goes on from there.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile

from dropgpt.errors import UserError
from dropgpt.machine.hardware import prepare
from dropgpt.machine.progress import progress
from dropgpt.machine.threads import CORES
from dropgpt.params import Params
from laboratory.first import plan
from laboratory.first.pipeline import PIPELINE, dvc, kept_lock, reason, repro, stage
from stages import run

PAUSE = 0.2  # seconds between two looks at the workers


class Worker:
    """A `dvc repro` of one run, what it says kept for the case that it fails."""

    def __init__(self, name: str) -> None:
        self.said = TemporaryFile("w+")  # noqa: SIM115
        command = ["--wait-for-lock", "repro", "--single-item", f"{PIPELINE}:{name}"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dvc", *command],
            stdin=subprocess.DEVNULL,
            stdout=self.said,
            stderr=subprocess.STDOUT,
        )

    def why(self) -> str:
        self.said.seek(0)
        return reason(self.said.read())


def laboratory(params: Params) -> None:
    plan.load()  # a mistake in it is told here, and not by each run
    with kept_lock() as keep:
        repro("prepare")
        make(missing(), params, keep)
        repro()


def make(waiting: list[str], params: Params, keep: Callable[[], None]) -> None:
    """Make these runs, a worker for each core; those that fail are told when all have ended."""
    at_once = CORES if prepare(params.runtime.device).type == "cpu" else 1
    bar = progress("laboratory", "runs", params.runtime.log_interval, len(waiting))
    workers: dict[str, Worker] = {}
    failed = []
    with bar, ended(workers):
        while waiting or workers:
            while waiting and len(workers) < at_once:
                name = waiting.pop(0)
                workers[name] = Worker(name)
            time.sleep(PAUSE)
            for name, worker in list(workers.items()):
                if worker.process.poll() is None:
                    continue
                if worker.process.returncode:
                    failed.append(f"{name}: {worker.why()}")
                    print(f"laboratory: {failed[-1]}", file=sys.stderr)
                del workers[name]
                keep()
                bar.update()
    if failed:
        raise UserError(f"laboratory: {len(failed)} runs failed; the first, {failed[0]}")


def missing() -> list[str]:
    """The names of the runs that DVC would make, in the order of the plan."""
    status = json.loads(dvc("status", "--json", PIPELINE.as_posix()))
    names = {name.rpartition(":")[2] for name in status}
    chosen = plan.load()
    return [
        name
        for group in chosen.groups.values()
        for seed in group.seeds
        for variant in group.variants
        if (name := stage(chosen, variant, seed)) in names
    ]


@contextmanager
def ended(workers: dict[str, Worker]) -> Iterator[None]:
    """Workers end with the block, each having saved how far it has come."""
    try:
        yield
    finally:
        for worker in workers.values():
            worker.process.terminate()
        for worker in workers.values():
            worker.process.wait()


if __name__ == "__main__":
    run(laboratory)
