"""How long a block takes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Timer:
    seconds: float


@contextmanager
def timed() -> Iterator[Timer]:
    timer = Timer()
    start = _now()
    yield timer
    timer.seconds = _now() - start


def _now() -> float:
    """In seconds, when the GPU has done what it was asked for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
