import os
import threading
from collections.abc import Callable

import pytest
import torch

from conftest import needs_fork
from dropgpt.machine.threads import in_threads, number

Threads = Callable[[int], None]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_results_come_in_the_order_of_the_items(threads: Threads, count: int) -> None:
    threads(count)
    assert number() == count
    assert list(in_threads(lambda x: x * x, range(7))) == [0, 1, 4, 9, 16, 25, 36]


def test_items_are_worked_on_at_the_same_time(threads: Threads) -> None:
    """Each waits for the other."""
    threads(2)
    both = threading.Barrier(2, timeout=30)
    assert sorted(in_threads(lambda _: both.wait(), range(2))) == [0, 1]


def test_torch_has_one_thread_within_each(threads: Threads) -> None:
    threads(2)
    assert list(in_threads(lambda _: torch.get_num_threads(), range(4))) == [1] * 4


@pytest.mark.parametrize("enabled", [True, False])
def test_gradients_are_on_or_off_as_where_they_are_called(threads: Threads, enabled: bool) -> None:
    threads(2)
    with torch.set_grad_enabled(enabled):
        assert list(in_threads(lambda _: torch.is_grad_enabled(), range(4))) == [enabled] * 4


def test_an_error_comes_out(threads: Threads) -> None:
    threads(2)
    results = in_threads(lambda x: 1 / x, [1, 0, 2])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


@needs_fork
def test_a_child_has_threads_of_its_own(threads: Threads) -> None:
    threads(2)
    list(in_threads(abs, range(4)))
    if (child := os.fork()) == 0:
        os._exit(sum(in_threads(abs, range(4))))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 6
