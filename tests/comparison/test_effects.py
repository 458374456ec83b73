"""What `statistics.WITHOUT_EFFECT` says of each parameter is so: each is tried."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from dvc.utils.flatten import flatten

from conftest import params_with, token_tensor
from dropgpt.comparison.statistics import WITHOUT_EFFECT
from dropgpt.evaluation import document_losses
from dropgpt.params import Params
from dropgpt.training.checkpoint import Checkpoint
from dropgpt.training.loop import train

IDS = np.random.default_rng(0).integers(0, 50, 700).astype(np.uint16)
# In which each parameter has a say.
BASE: dict[str, Any] = {
    "model.block_dropout": 0.05,
    "train.dropout_schedule": "late",
    "train.dropout_switch_step": 2,
    "train.lr_schedule": "cosine",
    "train.final_learning_rate": 1e-4,
    "train.max_gradient_norm": 1e-3,
    "train.micro_batch_size": 4,
    "train.warmup_steps": 1,
    "train.weight_decay_biases_and_norms": 0.1,
    "train.steps": 5,
}
OTHERS: dict[str, Any] = {
    "model.n_layer": 1,
    "model.n_head": 1,
    "model.n_embd": 32,
    "model.n_ctx": 16,
    "model.dropout": 0.2,
    "model.dropout_sites.embedding": 0.3,
    "model.dropout_sites.attention": 0.3,
    "model.dropout_sites.attention_output": 0.3,
    "model.dropout_sites.mlp": 0.3,
    "model.attention_dropout": "keys",
    "model.block_dropout": 0.3,
    "model.scale_logits": False,
    "model.token_embedding_std": 0.05,
    "train.seed": 2,
    "train.tokens": 300,
    "train.steps": 6,
    "train.batch_size": 3,
    "train.micro_batch_size": 1,
    "train.dropout_schedule": "early",
    "train.dropout_switch_step": 3,
    "train.sampling": "random",
    "train.token_replacement": 0.2,
    "train.loss": "final_token",
    "train.optimizer": "adamw",
    "train.learning_rate": 1e-2,
    "train.matrix_rate_factor": 1.0,
    "train.token_embedding_rate_factor": 1.0,
    "train.warmup_steps": 2,
    "train.lr_schedule": "linear",
    "train.final_learning_rate": 1e-3,
    "train.beta1": 0.8,
    "train.beta2": 0.9,
    "train.weight_decay": 0.5,
    "train.weight_decay_biases_and_norms": 0.5,
    "train.max_gradient_norm": 1e-4,
    "train.validation_interval": 1,
    "train.validation_windows": 1,
    "evaluate.seed": 2,
    "evaluate.stride": 8,
    "evaluate.across_documents": True,
    "evaluate.batch_size": 3,
    "evaluate.dropout_passes": 2,
    "evaluate.extra_corpora": ["corpora/none.txt"],
}
# What other tests try: precision and compile by their hardware, another model by its weights.
ELSEWHERE = {"train.precision", "train.compile", "evaluate.model"}


def params(**changes: Any) -> Params:
    sections: dict[str, dict[str, Any]] = {}
    values = flatten(params_with().model_dump()) | BASE | changes
    for key, value in values.items():
        *path, name = key.split(".")
        place = sections
        for part in path:
            place = place.setdefault(part, {})
        place[name] = value
    return params_with(**{name: sections[name] for name in ("model", "train", "evaluate")})


class Forgotten(Checkpoint):
    def __init__(self) -> None:
        super().__init__(Path("none"), 1e9, {})

    def load(self) -> None:
        return None

    def save(self, *_: Any) -> None:
        pass


@cache
def found(key: str | None) -> tuple[bytes, np.ndarray]:
    """All weights, and what each document takes in nats, with another value for `key`."""
    own = params(**({key: OTHERS[key]} if key else {}))
    tokens = token_tensor(IDS[:600], IDS[600:])
    result = train(
        own.train,
        own.model,
        tokens,
        device=torch.device("cpu"),
        dtype=torch.float32,
        log_interval=1e9,
        checkpoint=Forgotten(),
    )
    weights = b"".join(p.detach().numpy().tobytes() for p in result.model.parameters())
    documents = pd.DataFrame({"tokens": [30, 70]})
    losses = document_losses(result.model, IDS[600:], documents, own.evaluate)
    return weights, losses.nats.to_numpy()


def test_every_parameter_is_tried() -> None:
    own = flatten(params_with().model_dump())
    tried = {key for key in own if key.startswith(("model.", "train.", "evaluate."))}
    assert tried == {*OTHERS} | ELSEWHERE
    assert tried >= WITHOUT_EFFECT


@pytest.mark.parametrize("key", OTHERS)
def test_a_parameter_has_an_effect_or_none(key: str) -> None:
    weights, nats = found(None)
    weights_then, nats_then = found(key)
    same = weights == weights_then and np.allclose(nats, nats_then, rtol=1e-6, atol=0)
    assert same == (key in WITHOUT_EFFECT)
