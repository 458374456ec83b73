"""Evaluating and generating, ours and a peer's, in tokens a second."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks import setting
from benchmarks.setting import device_and_dtype, peers_device_and_dtype, stream
from benchmarks.timing import timed
from dropgpt import evaluation, generation
from dropgpt.model import artifact
from dropgpt.model.gpt import GPT, initialised
from dropgpt.tokens.vocabulary import N_VOCAB

MEASURED = 8_192  # tokens of the stream whose loss is taken; the windows must come out even
NEW = 100  # tokens generated after a prompt of 8


# Evaluating: tokens a second, each predicted once, at the default stride.


Size = tuple[int, int, int]  # n_layer, n_head and n_embd


def both(size: Size | None = None) -> tuple[GPT, torch.nn.Module]:
    """One model, as ours and as theirs; by default of the default size."""
    from transformers import GPT2LMHeadModel

    changes: dict[str, float] = {"dropout": 0.0}
    if size:
        changes |= zip(("n_layer", "n_head", "n_embd"), size, strict=True)
    ours = initialised(setting.PARAMS.model.model_copy(update=changes), 1)
    with TemporaryDirectory() as folder:
        artifact.save(ours, Path(folder) / "gpt")
        return artifact.load(Path(folder) / "gpt"), GPT2LMHeadModel.from_pretrained(f"{folder}/gpt")


def evaluate(size: Size | None = None) -> float:
    device, _ = device_and_dtype()
    ours = both(size)[0].to(device)
    tokens = stream()[:MEASURED]
    windows = evaluation.plan(
        np.array([len(tokens)]), setting.PARAMS.model.n_ctx, setting.PARAMS.evaluate.stride
    )
    with timed() as timer:
        losses = evaluation.losses(ours, tokens, windows, setting.PARAMS.evaluate.batch_size)
    print(f"evaluate: {losses.mean():.6f} nats", file=sys.stderr)
    return len(tokens) / timer.seconds


def evaluate_transformers(size: Size | None = None) -> float:
    """The sliding window of the Hugging Face documentation, one window at a time."""
    device, _ = peers_device_and_dtype()
    model = both(size)[1].to(device)
    ids = torch.from_numpy(np.concatenate([[N_VOCAB - 1], stream()[:MEASURED]]).astype(np.int64))
    total, seen = 0.0, 0
    with torch.no_grad(), timed() as timer:
        for begin in range(0, MEASURED, setting.PARAMS.evaluate.stride):
            end = min(begin + setting.PARAMS.model.n_ctx, MEASURED)
            logits = model(ids[None, begin:end].to(device)).logits[0, seen - begin :]
            targets = ids[seen + 1 : end + 1].to(device)
            total += F.cross_entropy(logits, targets, reduction="sum").item()
            seen = end
            if end == MEASURED:
                break
    print(f"evaluate: {total / MEASURED:.6f} nats", file=sys.stderr)
    return MEASURED / timer.seconds


# Generating: tokens a second after four prompts, temperature 0.8; the peer takes one at a time.


def generate() -> float:
    device, _ = device_and_dtype()
    ours = both()[0].to(device)
    params = setting.PARAMS.sample.model_copy(update={"tokens": NEW})

    pairs = [(stream()[start : start + 8].tolist(), 0.8) for start in range(0, 32, 8)]
    list(generation.generations(ours, pairs[:1], params))
    with timed() as timer:
        made = sum(map(len, generation.generations(ours, pairs, params)))
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
    options |= {"pad_token_id": N_VOCAB - 1, "eos_token_id": None, "top_k": 0}

    def run(start: int) -> int:
        prompt = torch.from_numpy(stream()[start : start + 8].astype(np.int64))[None].to(device)
        return int(model.generate(prompt, **options).shape[1]) - 8

    run(0)
    with timed() as timer:
        made = sum(run(start) for start in range(0, 32, 8))
    return made / timer.seconds
