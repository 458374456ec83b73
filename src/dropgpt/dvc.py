"""DVC, called so that it ends well, and all that it runs, where we are asked to leave."""

import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TextIO

import psutil

from dropgpt.machine.interruption import Interrupted, lives, postponed

PAUSE = 0.1  # seconds between two looks at it


def status_of(asked: Interrupted) -> int:
    """The exit status after a request to leave, as shells have it."""
    return 128 + signal.Signals[str(asked)]


def call(arguments: list[str], stdout: TextIO | None = None) -> int:
    """The exit status of `dvc ...`, which asks nothing; None: its words go where ours go.

    Raises Interrupted where we are asked to leave, when it and its stage have ended.
    """
    command = [sys.executable, "-m", "dvc", *arguments]
    with postponed() as asked_to_leave:
        dvc = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout)
        while dvc.poll() is None and not asked_to_leave():
            time.sleep(PAUSE)
        if dvc.poll() is None:
            # A stage that has only just begun would not notice that DVC is gone.
            ending: list[psutil.Process] = []
            with suppress(psutil.Error):  # where other users' processes are hidden: DVC's end does
                ending = psutil.Process(dvc.pid).children(recursive=True)
            dvc.terminate()
            dvc.wait()
            for process in ending:
                with suppress(psutil.NoSuchProcess):
                    process.terminate()
            while any(map(lives, ending)):
                time.sleep(PAUSE)
    if signal_name := asked_to_leave():
        raise Interrupted(signal_name)
    return dvc.returncode
