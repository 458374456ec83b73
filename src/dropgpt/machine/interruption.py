"""When a stage is asked to leave: SIGTERM, Ctrl-C, a closed terminal, the end of `dvc`, or of the
time that `ulimit -t` or a batch system gives."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread, main_thread
from types import FrameType
from typing import Any

import psutil

NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGXCPU", "SIGUSR1", "SIGUSR2")
SIGNALS = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
SHELLS = ("sh", "bash", "dash", "zsh", "fish", "ksh", "cmd.exe")


class Interrupted(BaseException):
    """Like KeyboardInterrupt, for every way to ask a stage to leave; says which it was."""


def hear() -> None:
    """From now on, being asked to leave raises Interrupted in the main thread."""
    _set_handlers(_interrupt)


def listen() -> None:
    """The same, and DVC's and torchrun's end counts as SIGTERM.

    When they are killed, they leave behind what they run.
    """
    hear()
    if {"DVC_STAGE", "TORCHELASTIC_RUN_ID"} & os.environ.keys():
        Thread(target=_end_with, args=(_starter(),), daemon=True).start()


@contextmanager
def postponed() -> Iterator[Callable[[], str | None]]:
    """In the block, a request to leave is only noted; the function given tells of it.

    So that what must not be torn can come to its end. A second Ctrl-C raises Interrupted.
    """
    noted: list[str] = []

    def note(number: int, frame: FrameType | None) -> None:
        if noted and number == signal.SIGINT:
            _interrupt(number, frame)
        noted.append(signal.Signals(number).name)

    before = _set_handlers(note)
    try:
        yield lambda: noted[0] if noted else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def listen_no_more() -> None:
    """From now on no signal disturbs, nor a second Ctrl-C: what was asked of us is being done."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(signal.Signals(number).name)


def _set_handlers(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Set `handler`, but not where a signal is ignored (nohup), and give what stood there."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: old for number, old in before.items() if old is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, handler)
    return before


def lives(process: psutil.Process) -> bool:
    """Whether it still runs.

    Not process.wait, for which the dead live until their own parent has noticed.
    """
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _starter() -> psutil.Process | None:
    """The process that started us, through a shell or not."""
    with suppress(psutil.Error):  # where /proc is mounted so that other users' are hidden
        process = psutil.Process().parent()
        while process and process.name() in SHELLS:
            process = process.parent()
        return process
    return None


def _end_with(process: psutil.Process | None) -> None:
    while process and lives(process):
        time.sleep(0.5)
    # Not os.kill, which may wake this thread and leave the main one asleep.
    signal.pthread_kill(main_thread().ident or 0, signal.SIGTERM)
