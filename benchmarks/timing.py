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
    start = time.perf_counter()
    yield timer
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    timer.seconds = time.perf_counter() - start
