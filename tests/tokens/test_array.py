import numpy as np
import pytest

from dropgpt.tokens.array import Joined
from dropgpt.tokens.batches import batch_starts, windows


def test_windows_drawn_across_the_borders_of_shards_are_those_of_the_one_file() -> None:
    whole = np.arange(1000, dtype=np.uint16)
    shards = Joined(np.split(whole, [1, 2, 300, 300, 333, 999]))
    part = shards[17:940][:900]  # as `train.tokens` takes it
    assert isinstance(part, Joined)
    assert len(part) == 900
    drawn = [batch_starts(900, 32, 8, "epoch", 1, step) for step in range(9)]
    for starts in [*drawn, np.arange(900 - 32)]:  # as in training, and wherever a window may lie
        for found, expected in zip(
            windows(part, starts, 32), windows(whole[17:917], starts, 32), strict=True
        ):
            assert found.equal(expected)
    for place in (-1, 900):
        with pytest.raises(IndexError):
            part[np.array([0, place])]
