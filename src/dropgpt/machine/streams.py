"""Standard output and error that may go away: no message is worth a result."""

import os
import sys
from contextlib import suppress
from typing import Any


class Unbreakable:
    """A stream of text whose reader may be gone: what cannot be told is told to nobody."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError:
            self._let_go()
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._let_go()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _let_go(self) -> None:
        """From now on, what is still in the stream and what libraries write goes nowhere."""
        with suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def open_streams() -> None:
    """Let standard output and error that were closed from the start lead nowhere.

    The number of one would be that of the next file opened, and what is told there would be
    written into it.
    """
    while (spare := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(spare)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name) or os.fdopen(number, "w", closefd=False)
        if hasattr(stream, "reconfigure"):  # a terminal need not know every character
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, stream)


def make_unbreakable() -> None:
    """Let no message on standard output or error fail from now on, whatever becomes of them."""
    open_streams()
    sys.stdout = Unbreakable(sys.stdout)
    sys.stderr = Unbreakable(sys.stderr)
