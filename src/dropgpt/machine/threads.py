"""Long pieces of work, side by side on the threads of one process.

Torch's own threads share out each single operation and wait for each other awake. Beside another
busy program all of them wait for the one whose core it has, and two threads train at a quarter
of their speed. Here every thread does its operations alone, and who has nothing to do sleeps.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

CORES = torch.get_num_threads()  # as many as torch finds, before anybody sets a number
_number = 1


def set_number(threads: int | None) -> None:
    """Work on so many threads from now on; None: one for each core."""
    global _number
    _number = threads or CORES
    torch.set_num_threads(1)


def number() -> int:
    """How many threads there are to work on."""
    return _number


def in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`work` of each item, in their order; with or without gradients, as where this is called.

    An error in one of them comes out where its result would have.
    """
    with_gradients = torch.is_grad_enabled()

    def one(item: Item) -> Result:
        with torch.set_grad_enabled(with_gradients):  # each thread has a setting of its own
            return work(item)

    items = list(items)
    if _number == 1 or len(items) == 1:
        return map(work, items)
    return _pool(_number).map(one, items)


def pieces(n: int, size: int) -> list[range]:
    """The numbers below n in order, `size` at a time; the last piece may be smaller."""
    return [range(start, min(start + size, n)) for start in range(0, n, size)]


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


if hasattr(os, "register_at_fork"):  # a child has none of its parent's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
