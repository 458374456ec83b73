"""Every random number is a pure function of (seed, purpose, step).

So resuming needs no random state, evaluating more often cannot change the training, and two
processes draw what one would have drawn.
"""

from hashlib import blake2b
from typing import Literal

import numpy as np
import torch

Purpose = Literal["initial weights", "data order", "dropout", "evaluation", "sampling"]


def generator(seed: int, purpose: Purpose, step: int | str = 0) -> np.random.Generator:
    """A stream of its own for what NumPy draws."""
    return np.random.Generator(np.random.Philox(key=_key(seed, purpose, step)))


def torch_generator(seed: int, purpose: Purpose, step: int | str = 0) -> torch.Generator:
    """A stream of its own for what torch draws on the CPU."""
    return torch.Generator().manual_seed(_key(seed, purpose, step))


def seed_torch(seed: int, purpose: Purpose, step: int | str = 0) -> None:
    """Begin the stream that dropout draws from, on every device.

    Fused attention takes no generator of ours, only the process-wide one. Setting it at each
    step makes the masks forget whatever was drawn before.
    """
    torch.manual_seed(_key(seed, purpose, step))


def _key(seed: int, purpose: Purpose, step: int | str) -> int:
    """63 bits that differ wherever seed, purpose or step do."""
    digest = blake2b(f"{seed}/{purpose}/{step}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
