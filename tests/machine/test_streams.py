import os
from typing import Any

import pytest

from dropgpt.machine.streams import Unbreakable


class Broken:
    """A stream that nobody reads any more, as what a library has put around one."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.broken = True

    def write(self, text: str) -> None:  # some give nothing back
        if self.broken:
            raise BrokenPipeError

    def flush(self) -> None:
        self.write("")

    def fileno(self) -> int:
        return self.number


@pytest.fixture
def pipe() -> Any:
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


def test_what_cannot_be_told_goes_nowhere(pipe: int) -> None:
    inner = Broken(pipe)
    stream = Unbreakable(inner)
    assert stream.write("one") == 3
    stream.flush()
    assert os.write(pipe, b"of a library") == 12  # it has no reader, and yet is written to
    assert stream.fileno() == pipe
    inner.broken = False
    assert stream.write("two") == 3
