"""Every random number is a pure function of (seed, purpose, step).

So resuming needs no random state, evaluating more often cannot change the training, and two
processes draw what one would have drawn.
"""

from __future__ import annotations

from hashlib import blake2b
from threading import local
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import torch  # slow to import, and what compares experiments has no other use for it

Purpose = Literal[
    "initial weights", "data order", "token replacement", "dropout", "evaluation", "sampling"
]


def generator(seed: int, purpose: Purpose, step: int | str = 0) -> np.random.Generator:
    """A stream of its own for what NumPy draws."""
    return np.random.Generator(np.random.Philox(key=_key(seed, purpose, step)))


def torch_generator(seed: int, purpose: Purpose, step: int | str = 0) -> torch.Generator:
    """A stream of its own for what torch draws on the CPU."""
    import torch

    return torch.Generator().manual_seed(_key(seed, purpose, step))


class _Streams(local):
    """What dropout draws from on a CPU, for each thread apart: a stream for each window."""

    of_windows: tuple[np.random.SFC64, ...] = ()


_streams = _Streams()


def seed_dropout(
    seed: int, purpose: Purpose, step: int, windows: range, device: torch.device
) -> None:
    """Begin the streams that dropout draws from, for those windows of a batch read next.

    On a CPU each window has one of its own, so that its masks are the same whatever windows are
    read with it, and in whichever thread. Elsewhere fused attention takes no generator of ours,
    only the process-wide one; setting it makes the masks forget whatever was drawn before.
    """
    if device.type == "cpu":
        key = _key(seed, purpose, step)
        _streams.of_windows = tuple(np.random.SFC64([key, window]) for window in windows)
    else:
        import torch

        torch.manual_seed(_key(seed, purpose, f"{step}/{windows.start}"))


def dropout_streams() -> tuple[np.random.SFC64, ...]:
    """One for each window, where this thread's last call of `seed_dropout` began them."""
    return _streams.of_windows


def _key(seed: int, purpose: Purpose, step: int | str) -> int:
    """63 bits that differ wherever seed, purpose or step do."""
    digest = blake2b(f"{seed}/{purpose}/{step}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
