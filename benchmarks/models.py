"""Training, evaluating and generating, ours and a peer's, in tokens a second."""

import math
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.timing import timed
from dropgpt import evaluation, generation
from dropgpt.machine.hardware import compute_dtype, prepare
from dropgpt.model import artifact
from dropgpt.model.gpt import GPT, initialised
from dropgpt.params import Params, load
from dropgpt.tokens.vocabulary import END_OF_TEXT_ID, N_VOCAB
from dropgpt.training import loop
from dropgpt.training.checkpoint import Checkpoint
from dropgpt.training.state import State

PARAMS: Params = load(Path("params.yaml"))  # the model is the default one, but for its dropout
BATCH, N_CTX = 64, PARAMS.model.n_ctx
STEPS = 5  # timed, after one to warm up
STREAM = np.random.default_rng(0).integers(0, N_VOCAB, 70_000).astype(np.uint16)
MEASURED = 8_192  # tokens of the stream whose loss is taken; the windows must come out even
NEW = 100  # tokens generated after a prompt of 8


def device_and_dtype() -> tuple[torch.device, torch.dtype]:
    device = prepare(PARAMS.runtime)
    return device, compute_dtype(PARAMS.train.precision, device)


def peers_device_and_dtype() -> tuple[torch.device, torch.dtype]:
    """The same ones. What else `prepare` sets is ours: a peer runs as torch comes."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return device, compute_dtype(PARAMS.train.precision, device)


# Training: tokens a second, with dropout at four sites.


class Unsaved(Checkpoint):
    def __init__(self) -> None:
        super().__init__(Path("none"), math.inf, {})

    def load(self) -> State | None:
        return None

    def save(self, state: State, step: int) -> None:
        pass


def train(dropout: float) -> float:
    """The loop as the stage calls it, with the making of the model and two small validations."""
    device, dtype = device_and_dtype()
    model = PARAMS.model.model_copy(update={"dropout": dropout})

    def run(steps: int) -> None:
        changes = {"batch_size": BATCH, "steps": steps, "validation_windows": 1}
        train_params = PARAMS.train.model_copy(update=changes)
        loop.train(
            train_params,
            model,
            training=STREAM,
            held_out=STREAM,
            device=device,
            dtype=dtype,
            log_interval=1e9,
            checkpoint=Unsaved(),
        )

    run(1)
    with timed() as timer:
        run(STEPS)
    return STEPS * BATCH * N_CTX / timer.seconds


Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # of inputs and targets


def plain_loop(
    model: torch.nn.Module, loss_of: Loss, device: torch.device, dtype: torch.dtype
) -> float:
    """What one writes around a model: autocast, backward, clipping, AdamW."""
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=device.type == "cuda")
    random = np.random.default_rng(0)

    def step() -> None:
        starts = random.integers(0, len(STREAM) - N_CTX, BATCH)
        rows = torch.from_numpy(STREAM[starts[:, None] + np.arange(N_CTX + 1)].astype(np.int64))
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
        for _ in range(STEPS):
            step()
    return STEPS * BATCH * N_CTX / timer.seconds


def transformers_model(dropout: float) -> torch.nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    m = PARAMS.model
    return GPT2LMHeadModel(
        GPT2Config(
            n_layer=m.n_layer,
            n_head=m.n_head,
            n_embd=m.n_embd,
            n_positions=N_CTX,
            activation_function="gelu",
            embd_pdrop=dropout,
            attn_pdrop=dropout,
            resid_pdrop=dropout,
        )
    )


def train_transformers(compiled: bool) -> float:
    model = transformers_model(0.1)
    forward = torch.compile(model) if compiled else model
    return plain_loop(
        model,
        lambda x, y: F.cross_entropy(
            forward(x, use_cache=False).logits.flatten(0, 1).float(), y.flatten()
        ),
        *peers_device_and_dtype(),
    )


def train_nanogpt(compiled: bool) -> float:
    """Its model.py from the checkout that $NANOGPT names, at its padded vocabulary of 50,304.

    Not compiled it is what its README says for a CPU, in float32.
    """
    sys.path.insert(0, os.environ["NANOGPT"])
    theirs = import_module("model")
    m = PARAMS.model
    size = {"n_layer": m.n_layer, "n_head": m.n_head, "n_embd": m.n_embd, "block_size": N_CTX}
    config = theirs.GPTConfig(**size, vocab_size=50304, dropout=0.1, bias=True)
    model = theirs.GPT(config)
    forward = torch.compile(model) if compiled else model
    device, dtype = peers_device_and_dtype()
    return plain_loop(
        model, lambda x, y: forward(x, y)[1], device, dtype if compiled else torch.float32
    )


# Evaluating: tokens a second, each predicted once, at the default stride.


def both() -> tuple[GPT, torch.nn.Module]:
    """One model, as ours and as theirs."""
    from transformers import GPT2LMHeadModel

    ours = initialised(PARAMS.model.model_copy(update={"dropout": 0.0}), 1)
    with TemporaryDirectory() as folder:
        artifact.save(ours, Path(folder) / "gpt")
        return artifact.load(Path(folder) / "gpt"), GPT2LMHeadModel.from_pretrained(f"{folder}/gpt")


def evaluate() -> float:
    device, _ = device_and_dtype()
    ours = both()[0].to(device)
    stream = STREAM[:MEASURED]
    windows = evaluation.plan(np.array([len(stream)]), N_CTX, PARAMS.evaluate.stride)
    with timed() as timer:
        losses = evaluation.losses(ours, stream, windows, PARAMS.evaluate.batch_size)
    print(f"evaluate: {losses.mean():.6f} nats", file=sys.stderr)
    return len(stream) / timer.seconds


def evaluate_transformers() -> float:
    """The sliding window of the Hugging Face documentation, one window at a time."""
    device, _ = peers_device_and_dtype()
    model = both()[1].to(device)
    ids = torch.from_numpy(np.concatenate([[END_OF_TEXT_ID], STREAM[:MEASURED]]).astype(np.int64))
    total, seen = 0.0, 0
    with torch.no_grad(), timed() as timer:
        for begin in range(0, MEASURED, PARAMS.evaluate.stride):
            end = min(begin + N_CTX, MEASURED)
            logits = model(ids[None, begin:end].to(device)).logits[0, seen - begin :]
            targets = ids[seen + 1 : end + 1].to(device)
            total += F.cross_entropy(logits, targets, reduction="sum").item()
            seen = end
            if end == MEASURED:
                break
    print(f"evaluate: {total / MEASURED:.6f} nats", file=sys.stderr)
    return MEASURED / timer.seconds


# Generating: tokens a second, one prompt at a time, temperature 0.8.


def generate() -> float:
    device, _ = device_and_dtype()
    ours = both()[0].to(device)
    params = PARAMS.sample.model_copy(update={"tokens": NEW})
    generation.generate(ours, STREAM[:8].tolist(), 0.8, params)
    made = 0
    with timed() as timer:
        for start in range(0, 32, 8):
            made += len(generation.generate(ours, STREAM[start : start + 8].tolist(), 0.8, params))
    return made / timer.seconds


def generate_transformers() -> float:
    device, _ = peers_device_and_dtype()
    model: Any = both()[1].to(device)
    options: dict[str, Any] = {
        "max_new_tokens": NEW,
        "do_sample": True,
        "temperature": 0.8,
        "use_cache": True,
    }
    options |= {"pad_token_id": END_OF_TEXT_ID, "eos_token_id": None, "top_k": 0}

    def run(start: int) -> int:
        prompt = torch.from_numpy(STREAM[start : start + 8].astype(np.int64))[None].to(device)
        return int(model.generate(prompt, **options).shape[1]) - 8

    run(0)
    with timed() as timer:
        made = sum(run(start) for start in range(0, 32, 8))
    return made / timer.seconds
