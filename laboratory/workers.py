"""Runs made side by side, each by a `dvc repro` of its own.

So what has been made is what DVC says has been made, and a laboratory that was stopped goes on
from there.
"""

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
from laboratory.pipeline import Pipeline, reason

PAUSE = 0.2  # seconds between two looks at the workers


class Worker:
    """A `dvc repro` of one run, what it says kept for the case that it fails."""

    def __init__(self, pipeline: Pipeline, name: str) -> None:
        self.said = TemporaryFile("w+")  # noqa: SIM115
        command = ["--wait-for-lock", "repro", "--single-item", f"{pipeline.file}:{name}"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dvc", *command],
            stdin=subprocess.DEVNULL,
            stdout=self.said,
            stderr=subprocess.STDOUT,
        )

    def why(self) -> str:
        self.said.seek(0)
        return reason(self.said.read())


def make(pipeline: Pipeline, waiting: list[str], params: Params, keep: Callable[[], None]) -> None:
    """Make these runs, a worker for each core; those that fail are told when all have ended."""
    at_once = CORES if prepare(params.runtime.device).type == "cpu" else 1
    bar = progress("laboratory", "runs", params.runtime.log_interval, len(waiting))
    workers: dict[str, Worker] = {}
    failed = []
    with bar, _ended(workers):
        while waiting or workers:
            while waiting and len(workers) < at_once:
                name = waiting.pop(0)
                workers[name] = Worker(pipeline, name)
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


@contextmanager
def _ended(workers: dict[str, Worker]) -> Iterator[None]:
    """Workers end with the block, each having saved how far it has come."""
    try:
        yield
    finally:
        for worker in workers.values():
            worker.process.terminate()
        for worker in workers.values():
            worker.process.wait()
