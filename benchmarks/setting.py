"""What ours and a peer share: the parameters, random tokens, the device and its type."""

from pathlib import Path

import numpy as np
import torch

from dropgpt.machine.hardware import compute_dtype, prepare
from dropgpt.params import Params, load
from dropgpt.tokens.array import Array
from dropgpt.tokens.vocabulary import N_VOCAB

PARAMS: Params = load(Path("params.yaml"))


def stream(n_vocab: int = N_VOCAB) -> Array:
    return np.random.default_rng(0).integers(0, n_vocab, 70_000).astype(np.uint16)


def device_and_dtype(threads: int | None = None) -> tuple[torch.device, torch.dtype]:
    device = prepare(PARAMS.runtime.device, threads)
    return device, compute_dtype(PARAMS.train.precision, device)


def peers_device_and_dtype(threads: int | None = None) -> tuple[torch.device, torch.dtype]:
    """The same ones. What else `prepare` sets is ours: a peer runs as torch comes."""
    if threads:
        torch.set_num_threads(threads)
    name = PARAMS.runtime.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    return device, compute_dtype(PARAMS.train.precision, device)
