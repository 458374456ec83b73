"""Training, ours and a peer's, in tokens a second, with dropout at four sites."""

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from benchmarks import setting
from benchmarks.setting import device_and_dtype, peers_device_and_dtype, stream
from benchmarks.timing import timed
from dropgpt.model.gpt import GPT
from dropgpt.params import Model
from dropgpt.tokens.tensor import TokenTensor
from dropgpt.tokens.vocabulary import N_VOCAB
from dropgpt.training import loop
from dropgpt.training.checkpoint import Checkpoint
from dropgpt.training.state import State


class Training(NamedTuple):
    """What is trained, and how many steps of it are timed after one to warm up.

    `size` is n_layer, n_head and n_embd; no `threads`: one for each core.
    """

    batch_size: int = 64
    n_ctx: int = 256
    n_vocab: int = N_VOCAB
    dropout: float = 0.1
    size: tuple[int, int, int] = (4, 4, 128)
    threads: int | None = None
    steps: int = 3
    optimizer: str = "muon"  # ours; the peers have AdamW

    @property
    def tokens(self) -> int:
        return self.steps * self.batch_size * self.n_ctx


LARGE = Training()
DEFAULT = Training(batch_size=8, n_ctx=128, steps=40)
SMALL = DEFAULT._replace(n_vocab=1025, dropout=0.2, threads=1)
# For a GPU.
GPT2_SMALL = Training(size=(12, 12, 768), steps=20)
GPT2_SMALL_ADAMW = GPT2_SMALL._replace(optimizer="adamw")
GPT2_SMALL_1024 = GPT2_SMALL_ADAMW._replace(n_ctx=1024)


class Clock(Checkpoint):
    """Saves nothing, and notes when it is asked to: once a step.

    The loop runs ahead of a GPU: the first time and that after `steps` steps wait for it.
    """

    def __init__(self, steps: int) -> None:
        super().__init__(Path("none"), math.inf, {})
        self.steps = steps
        self.times: list[float] = []

    def load(self) -> State | None:
        return None

    def due(self) -> bool:
        if len(self.times) in (0, self.steps) and torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())
        return False

    def save(self, state: State, step: int) -> None:
        pass


def model_params(what: Training) -> Model:
    sizes = dict(zip(("n_layer", "n_head", "n_embd"), what.size, strict=True))
    changes = sizes | {"dropout": what.dropout, "n_ctx": what.n_ctx}
    return setting.PARAMS.model.model_copy(update=changes)


def train(what: Training) -> float:
    """The loop as the stage calls it, from the first step's gradients to the last one's."""
    device, dtype = device_and_dtype(what.threads)
    changes = {
        "batch_size": what.batch_size,
        "steps": 1 + what.steps,
        "validation_windows": 1,
        "optimizer": what.optimizer,
    }
    ids = stream(what.n_vocab)
    documents = pd.DataFrame({"tokens": [len(ids)] * 2, "held_out": [False, True]})
    clock = Clock(what.steps)
    loop.train(
        setting.PARAMS.train.model_copy(update=changes),
        model_params(what),
        TokenTensor(np.concatenate([ids, ids]), documents, what.n_vocab),
        device=device,
        dtype=dtype,
        log_interval=1e9,
        checkpoint=clock,
    )
    return what.tokens / (clock.times[-1] - clock.times[0])


@contextmanager
def beside(programs: int) -> Iterator[None]:
    """So many other programs, each of which keeps a core busy."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(programs)]
    try:
        yield
    finally:
        for program in busy:
            program.kill()


Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # of inputs and targets


def plain_loop(
    model: torch.nn.Module,
    loss_of: Loss,
    what: Training,
    device: torch.device,
    dtype: torch.dtype,
) -> float:
    """What one writes around a model: autocast, backward, clipping, AdamW."""
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=device.type == "cuda")
    random = np.random.default_rng(0)
    tokens, n_ctx = stream(what.n_vocab), what.n_ctx

    def step() -> None:
        starts = random.integers(0, len(tokens) - n_ctx, what.batch_size)
        rows = torch.from_numpy(tokens[starts[:, None] + np.arange(n_ctx + 1)].astype(np.int64))
        x, y = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = loss_of(x.to(device), y.to(device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()

    step()
    with timed() as timer:
        for _ in range(what.steps):
            step()
    return what.tokens / timer.seconds


def train_transformers(what: Training, compiled: bool) -> float:
    from transformers import GPT2Config, GPT2LMHeadModel

    n_layer, n_head, n_embd = what.size
    model = GPT2LMHeadModel(
        GPT2Config(
            n_layer=n_layer,
            n_head=n_head,
            n_embd=n_embd,
            n_positions=what.n_ctx,
            activation_function="gelu",
            embd_pdrop=what.dropout,
            attn_pdrop=what.dropout,
            resid_pdrop=what.dropout,
        )
    )
    forward = torch.compile(model) if compiled else model
    return plain_loop(
        model,
        lambda x, y: F.cross_entropy(
            forward(x, use_cache=False).logits.flatten(0, 1).float(), y.flatten()
        ),
        what,
        *peers_device_and_dtype(what.threads),
    )


def train_nanogpt(what: Training, compiled: bool) -> float:
    """Its model.py from the checkout that $NANOGPT names, at its padded vocabulary of 50,304."""
    sys.path.insert(0, os.environ["NANOGPT"])
    theirs = import_module("model")
    n_layer, n_head, n_embd = what.size
    config = theirs.GPTConfig(
        n_layer=n_layer,
        n_head=n_head,
        n_embd=n_embd,
        block_size=what.n_ctx,
        vocab_size=50304 if what.n_vocab == N_VOCAB else what.n_vocab,
        dropout=what.dropout,
        bias=True,
    )
    model = theirs.GPT(config)
    forward = torch.compile(model) if compiled else model
    return plain_loop(
        model, lambda x, y: forward(x, y)[1], what, *peers_device_and_dtype(what.threads)
    )


def matrix_rate() -> float:
    """The rate of a large matrix product, in FLOP/s: what a training could reach at most."""
    device, dtype = peers_device_and_dtype()  # on all cores, as torch shares one product out
    a, b = torch.randn(2, 8192 if device.type == "cuda" else 2048, 8192, device=device, dtype=dtype)
    a @ b.T
    with timed() as timer:
        for _ in range(10):
            a @ b.T
    return 20 * len(a) * len(b) * a.shape[1] / timer.seconds


def flop_of(what: Training) -> float:
    """Of a token's forward and backward pass."""
    return GPT.empty(model_params(what), what.n_vocab).flop_of_token()
