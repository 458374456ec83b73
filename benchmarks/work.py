"""The same work, ours and a peer's; each piece gives its rate, or seconds where it says so."""

import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from ruamel.yaml import YAML

from dropgpt import (
    artifact,
    evaluation,
    generation,
    training,
    wikipedia,
)
from dropgpt.checkpoint import Checkpoint, State
from dropgpt.hardware import compute_dtype, prepare
from dropgpt.model import GPT, initialised
from dropgpt.params import Params, load
from dropgpt.vocabulary import END_OF_TEXT_ID, N_VOCAB, gpt2_encoding

PARAMS: Params = load(Path("params.yaml"))  # the model is the default one, but for its dropout
BATCH, N_CTX = 64, PARAMS.model.n_ctx
STEPS = 2  # timed, after one to warm up
STREAM = np.random.default_rng(0).integers(0, N_VOCAB, 70_000).astype(np.uint16)
MEASURED = 8_192  # tokens of the stream whose loss is taken; the windows must come out even
NEW = 100  # tokens generated after a prompt of 8


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

    def save(self, state: State, step: int) -> None:
        pass


def train(dropout: float) -> float:
    """The loop as the stage calls it, with the making of the model and two small looks."""
    device, dtype = device_and_dtype()
    model = PARAMS.model.model_copy(update={"dropout": dropout})

    def run(steps: int) -> None:
        changes = {"batch_size": BATCH, "steps": steps, "validation_windows": 1}
        train_params = PARAMS.train.model_copy(update=changes)
        training.train(model, train_params, STREAM, STREAM, device, dtype, 1e9, Unsaved())

    run(1)
    with timed() as timer:
        run(STEPS)
    return STEPS * BATCH * N_CTX / timer.seconds


Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # of inputs and targets


def plain_loop(model: torch.nn.Module, loss_of: Loss) -> float:
    """What one writes around a model: autocast, backward, clipping, AdamW."""
    device, dtype = peers_device_and_dtype()
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
    )


def train_nanogpt(compiled: bool) -> float:
    """Its model.py from the checkout that $NANOGPT names, at its padded vocabulary of 50,304."""
    sys.path.insert(0, os.environ["NANOGPT"])
    theirs = import_module("model")
    m = PARAMS.model
    size = {"n_layer": m.n_layer, "n_head": m.n_head, "n_embd": m.n_embd, "block_size": N_CTX}
    config = theirs.GPTConfig(**size, vocab_size=50304, dropout=0.1, bias=True)
    model = theirs.GPT(config)
    forward = torch.compile(model) if compiled else model
    return plain_loop(model, lambda x, y: forward(x, y)[1])


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


# The stages whole, over the default corpus or many times as much of it.

STAGES = ("download_fineweb", "tokenize", "train", "evaluate", "sample")
SMALL = {"n_layer": 1, "n_head": 1, "n_embd": 16}  # a model that is no great part of the work
PROJECT = Path(__file__).parent.parent
# Leaves where the stage would show its first progress: all is read by then, nothing is done.
START = """
import runpy, sys
from dropgpt import progress
progress.progress = lambda *_, **__: sys.exit()
runpy.run_module("stages.{}", run_name="__main__")
"""


@contextmanager
def workspace(stage: str, times: int) -> Iterator[float]:
    """A folder in which the stages before `stage` have run; the megabytes of text there."""
    changes: dict[str, dict[str, Any]] = {
        "data": {"source": "files", "files": "corpora/*.jsonl"},
        "model": SMALL,
        "train": {"steps": 20},
    }
    values = PARAMS.model_dump()
    for section, change in changes.items():
        values[section] |= change
    size = 0
    with TemporaryDirectory() as folder, chdir(folder):
        for name in ("src", "stages", "dvc.yaml"):
            Path(name).symlink_to(PROJECT / name)
        YAML().dump(values, Path("params.yaml"))
        Path("corpora").mkdir()
        with Path("corpora/own.jsonl").open("w") as file:
            for found in [*wikipedia.wikipedia()] * times:
                file.write(json.dumps({"text": found.text}) + "\n")
                size += len(found.text.encode())
        for earlier in STAGES[: STAGES.index(stage)]:
            subprocess.run([sys.executable, "-m", f"stages.{earlier}"], check=True)
        yield size / 1e6


def whole_stage(stage: str, times: int = 1) -> float:
    """Megabytes of the corpus's text a second; the training is of 20 steps whatever its length."""
    run = getattr(import_module(f"stages.{stage}"), stage)
    with workspace(stage, times) as size:
        params = load(Path("params.yaml"))
        with timed() as timer:
            run(params)
    return (1 if stage == "train" else size) / timer.seconds


def start(stage: str) -> float:
    """Seconds that pass before a stage works."""
    with workspace(stage, 1), timed() as timer:
        subprocess.run([sys.executable, "-c", START.format(stage)], check=True)
    return timer.seconds


def repro_with_nothing_to_do() -> float:
    """Seconds of the second `dvc repro`; the first may be long."""
    for _ in range(2):
        with timed() as timer:
            subprocess.run([sys.executable, "-m", "dvc", "repro"], check=True)
    return timer.seconds


def tokenize_tiktoken(times: int) -> float:
    """Without the reading and writing, and all texts at once."""
    encoding = gpt2_encoding()
    texts = [found.text for found in wikipedia.wikipedia()] * times
    with timed() as timer:
        encoding.encode_ordinary_batch(texts, num_threads=os.cpu_count() or 1)
    return sum(len(text.encode()) for text in texts) / 1e6 / timer.seconds


WORK: dict[str, Callable[[], float]] = {
    "train": lambda: train(0.1),
    "train without dropout": lambda: train(0.0),
    "train_transformers": lambda: train_transformers(False),
    "train_transformers compiled": lambda: train_transformers(True),
    "train_nanogpt": lambda: train_nanogpt(False),
    "train_nanogpt compiled": lambda: train_nanogpt(True),
    "evaluate": evaluate,
    "evaluate_transformers": evaluate_transformers,
    "generate": generate,
    "generate_transformers": generate_transformers,
    "tokenize_tiktoken": lambda: tokenize_tiktoken(1),
    "tokenize_tiktoken ten times": lambda: tokenize_tiktoken(10),
    "repro with nothing to do": repro_with_nothing_to_do,
}
WORK |= {f"start {stage}": partial(start, stage) for stage in STAGES}
for stage in STAGES[:-1]:  # the last reads no documents
    WORK[f"{stage} stage"] = partial(whole_stage, stage)
    WORK[f"{stage} stage ten times"] = partial(whole_stage, stage, 10)

if __name__ == "__main__":
    found = WORK[sys.argv[1]]()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux
    print(json.dumps({"found": found, "peak_mb": peak * 1024 / 1e6}))
