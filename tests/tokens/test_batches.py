from typing import Any, Literal

import numpy as np
import pytest

from conftest import params_with
from dropgpt.tokens.array import Array
from dropgpt.tokens.batches import (
    Batches,
    Starts,
    batch_starts,
    epoch_starts,
    readings,
    readings_in_words,
    spread_starts,
    windows,
)


@pytest.mark.parametrize("n_tokens", [33, 64, 65, 1000, 1025])
def test_the_windows_of_an_epoch_cover_every_token(n_tokens: int) -> None:
    tokens = np.arange(n_tokens, dtype=np.uint16)
    count = len(epoch_starts(n_tokens, 32))
    starts = batch_starts(n_tokens, 32, count, "epoch", seed=1, step=0)
    inputs, targets = windows(tokens, starts, 32)
    assert set(targets.flatten().tolist()) == set(range(1, n_tokens))
    assert 0 in inputs
    assert (targets == inputs + 1).all()


def ten_epochs(n_tokens: int, sampling: Literal["epoch", "fixed"], seed: int = 1) -> Starts:
    """Where windows of 32 tokens begin, (10, windows), out of batches that run across the ends."""
    count = len(epoch_starts(n_tokens, 32))
    steps = [batch_starts(n_tokens, 32, 5, sampling, seed, step) for step in range(2 * count)]
    return np.concatenate(steps).reshape(10, count)


def test_each_epoch_is_a_new_permutation_and_fixed_windows_stay_where_they_are() -> None:
    drawn = ten_epochs(1000, "fixed")
    for epoch in drawn:
        assert sorted(epoch) == list(epoch_starts(1000, 32))
    assert len({tuple(epoch) for epoch in drawn}) == 10


@pytest.mark.parametrize("n_tokens", [33, 34, 64, 65, 1000, 1025])
def test_windows_move_by_one_offset_from_the_second_epoch_on(n_tokens: int) -> None:
    """And stay within the text, which they cover from the first one on."""
    drawn, fixed = ten_epochs(n_tokens, "epoch"), ten_epochs(n_tokens, "fixed")
    last = n_tokens - 33
    assert drawn[0].tolist() == fixed[0].tolist()
    for epoch, places in zip(drawn[1:], fixed[1:], strict=True):
        offsets = (epoch - places)[epoch < last]  # those at the end cannot move on
        assert len(set(offsets.tolist())) <= 1
        assert epoch.min() >= 0
        assert epoch.max() == last
        assert epoch.min() < 32
        assert np.diff(np.sort(epoch)).max(initial=0) <= 32


def test_the_offsets_are_of_seed_and_epoch() -> None:
    first, again, other = (ten_epochs(1000, "epoch", seed).min(axis=1) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist()
    assert len(set(first.tolist())) > 5  # of ten draws out of 32
    assert (first[1:] != other[1:]).sum() > 5


@pytest.mark.parametrize("sampling", ["epoch", "fixed", "random"])
def test_a_batch_is_a_function_of_seed_and_step(sampling: str) -> None:
    def draw(seed: int, step: int) -> list[int]:
        return batch_starts(5000, 32, 8, sampling, seed, step).tolist()  # type: ignore[arg-type]

    later = draw(1, 7)
    assert draw(1, 6) != later
    assert draw(1, 7) == later
    assert draw(2, 7) != later


def read(rate: float, step: int = 3, own: range = range(8), seed: int = 1) -> Array:
    """Inputs and targets of a text in which each token is one more than the last."""
    params = params_with(train={"batch_size": 8, "seed": seed, "token_replacement": rate}).train
    return Batches(np.arange(1000, 6000, dtype=np.uint16), 32, 300, params, own).rows(step)


def test_so_many_inputs_are_replaced_by_any_token_and_no_target() -> None:
    plain, replaced = (np.stack([read(rate, step) for step in range(100)]) for rate in (0.0, 0.2))
    assert (plain[:, 0] == plain[:, 1] - 1).all()
    assert (replaced[:, 1] == plain[:, 1]).all()
    others = replaced[:, 0] != plain[:, 0]
    assert others.mean() == pytest.approx(0.2, abs=0.01)  # 4 standard deviations
    assert others.any(axis=(0, 1)).all()  # at each place of a window
    assert set(replaced[:, 0][others].tolist()) == set(range(300))


def test_what_is_replaced_is_a_function_of_seed_step_and_window() -> None:
    def places(**changes: int) -> list[list[bool]]:
        inputs, targets = read(0.2, **changes)
        return (inputs != targets - 1).tolist()  # type: ignore[no-any-return]

    whole = read(0.2)
    assert np.array_equal(whole, read(0.2))
    assert np.array_equal(whole[:, :3], read(0.2, own=range(3)))  # of two processes
    assert np.array_equal(whole[:, 3:], read(0.2, own=range(3, 8)))
    assert len({str(one) for one in (*places(), *places(step=4), *places(seed=2))}) == 24


def test_random_windows_lie_anywhere_and_within() -> None:
    starts = batch_starts(40, 32, 1000, "random", seed=1, step=0)
    assert set(starts) == set(range(8))  # the last begins at 7 and takes tokens 7..39


def test_the_held_out_windows_are_spread_and_whole() -> None:
    starts = spread_starts(1000, 32, 4)
    assert starts[0] == 0
    assert starts[-1] == 1000 - 33
    assert len(starts) == 4
    assert (np.diff(starts) > 250).all()
    assert len(spread_starts(100, 32, 50)) == len(epoch_starts(100, 32))


def test_readings_are_windows_over_the_tokens_that_may_be_read() -> None:
    def sections(**train: int) -> dict[str, Any]:
        params = params_with(train={"steps": 10, "batch_size": 4} | train)
        return {"model": params.model.model_dump(), "train": params.train.model_dump()}

    assert readings(sections(), 2560) == 0.5  # 10 steps of 4 windows of 32 tokens
    assert readings_in_words(sections(), 2560) == "1,280 tokens, the training part 0.5 times"
    of_first = "1,280 tokens, the first 128 of the training part 10.0 times"
    assert readings_in_words(sections(tokens=128), 2560) == of_first
    assert readings_in_words(sections(tokens=128), None) == of_first
    assert readings_in_words(sections(), None) == "1,280 tokens"
    assert readings_in_words(sections(), 10**6).endswith("the training part less than 0.1 times")
