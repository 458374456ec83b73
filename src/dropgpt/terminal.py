"""Commands as typed in a terminal, for examples/ and programs like them.

They run by the Python that runs the program, whose environment need not be active.
"""

import shlex
import subprocess
import sys
from contextlib import suppress
from datetime import datetime

from dropgpt import dvc
from dropgpt.machine.interruption import Interrupted


def run(command: str) -> None:
    """`dvc ...` or `dropgpt ...`; raises SystemExit where it fails."""
    print(f"\n$ {command}", flush=True)
    if status(*shlex.split(command)):
        raise SystemExit("it failed, as it says above")


def status(name: str, *words: str) -> int:
    """The exit status of `dvc ...` or `dropgpt ...`.

    Ctrl-C waits until it has ended, which `subprocess.run` does for a quarter of a second. After
    that of DVC, or another request to leave, SystemExit is raised.
    """
    if name == "dvc":
        try:
            return dvc.call([*words])
        except Interrupted as asked:
            raise SystemExit(dvc.status_of(asked)) from None
    running = subprocess.Popen([sys.executable, "-m", name, *words])
    found = None
    while found is None:
        with suppress(KeyboardInterrupt):  # it hears Ctrl-C, too
            found = running.wait()
    return found


def set_aside(experiment: str) -> None:
    """Give an earlier experiment of this name another one: DVC would not make it anew."""
    earlier = f"{experiment}-{datetime.now():%Y%m%d-%H%M%S}"
    if _quietly("exp", "rename", experiment, earlier):
        print(f"the experiment {experiment} of an earlier run is now {earlier}", flush=True)


def remove(experiment: str) -> None:
    """Remove an experiment, if there is one of this name."""
    _quietly("exp", "remove", experiment)


def _quietly(*words: str) -> bool:
    """Whether `dvc ...` did what it was to do."""
    done = subprocess.run([sys.executable, "-m", "dvc", *words], capture_output=True)
    return not done.returncode
