"""The trainings that the claims are about, and what each has found.

All train the same small model for as many steps, and differ in what VARIANTS says and in the seed.
"""

import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dropgpt.evaluation import by_document, document_losses, losses, plan
from dropgpt.machine import interruption, provenance
from dropgpt.machine.files import SUMS, replacing, write_json
from dropgpt.machine.hardware import compute_dtype, environment, prepare
from dropgpt.machine.progress import progress
from dropgpt.model.gpt import GPT, Block
from dropgpt.params import Evaluate, Params, Runtime, load
from dropgpt.randomness import seed_dropout
from dropgpt.tokens import tensor
from dropgpt.tokens.tensor import Tokens, TokenTensor
from dropgpt.training import checkpoint
from dropgpt.training.loop import outcome, train

# A run that has ended is not made again where parameters, tokens, code of the training and
# environment are the same.
FOLDER = Path("results/runs")
SEEDS = (1, 2, 3, 4, 5)

Changes = dict[str, Any]  # of parameters, by their dotted keys

BASE: Changes = {
    "model.n_layer": 2,
    "model.n_head": 2,
    "model.n_embd": 64,
    "model.n_ctx": 128,
    "model.dropout": 0.0,
    "train.steps": 960,
    "train.batch_size": 4,
    "train.optimizer": "adamw",
    "train.learning_rate": 1e-3,
    "train.matrix_rate_factor": 1.0,
    "train.token_embedding_rate_factor": 1.0,
    "train.lr_schedule": "constant",
    "train.weight_decay": 0.0,
    "train.weight_decay_biases_and_norms": 0.0,
    "train.validation_interval": 48,
    "train.validation_windows": 32,
    "evaluate.stride": 128,
    "evaluate.dropout_passes": 8,
    "runtime.threads": 1,  # a run for each core gets further than a core more for each run
}
ONE_EPOCH: Changes = {"train.tokens": 491_520}  # read once in so many steps
MANY_EPOCHS: Changes = {"train.tokens": 61_440}  # 8 epochs
LAST_TOKEN: Changes = {
    "train.loss": "final_token",
    "train.tokens": 30_720,  # an eighth of a target for each, as in the reference recipe
}

RATES = (0.1, 0.2, 0.4)
RATE = 0.2  # where only one is tried
SITES = ("embedding", "attention", "attention_output", "mlp")
WEIGHT_DECAY: Changes = {  # at 0.1 the weights would shrink by a tenth in so few steps
    "train.weight_decay": 1.0,
    "train.weight_decay_biases_and_norms": 1.0,
}


def many(rate: float) -> str:
    return f"many epochs, p {rate}"


def one(rate: float) -> str:
    return f"one epoch, p {rate}"


VARIANTS: dict[str, Changes] = {
    **{many(rate): MANY_EPOCHS | {"model.dropout": rate} for rate in RATES},
    **{one(rate): ONE_EPOCH | {"model.dropout": rate} for rate in RATES},
    many(0): MANY_EPOCHS,
    one(0): ONE_EPOCH,
    "weight decay, p 0": MANY_EPOCHS | WEIGHT_DECAY,
    f"weight decay, p {RATE}": MANY_EPOCHS | WEIGHT_DECAY | {"model.dropout": RATE},
    "with replacement": MANY_EPOCHS | {"train.sampling": "random", "model.dropout": RATE},
    "linear up": MANY_EPOCHS | {"train.dropout_schedule": "linear_up", "model.dropout": RATE},
    "early only": MANY_EPOCHS
    | {
        "train.dropout_schedule": "early",
        "train.dropout_switch_step": 480,
        "model.dropout": RATE,
    },
    **{f"only {site}": MANY_EPOCHS | {f"model.dropout_sites.{site}": RATE} for site in SITES},
    **{f"last token, p {rate}": LAST_TOKEN | {"model.dropout": rate} for rate in (0, RATE)},
}


# Those that are measured with dropout left on, too.
LEFT_ON = [many(rate) for rate in RATES]


@dataclass(frozen=True)
class Found:
    """What a run has found, in nats a token.

    environment  what may change the last bits, and is no parameter
    outcome      as in metrics/train.json
    validations        one row a validation: step, validation_loss
    documents    one row a held-out document: tokens, and sums over them of the losses of the
                 weights after the last step: nats, and for LEFT_ON nats_dropout_on,
                 nats_monte_carlo and nats_attention_on
    """

    environment: dict[str, Any]
    outcome: dict[str, float]
    validations: pd.DataFrame
    documents: pd.DataFrame


def params_of(variant: str, seed: int) -> Params:
    """params.yaml with BASE, the variant's changes and the seed."""
    values = load(Path("params.yaml")).model_dump()
    for key, value in (BASE | VARIANTS[variant] | {"train.seed": seed}).items():
        *sections, name = key.split(".")
        section = values
        for step in sections:
            section = section[step]
        section[name] = value
    return Params.model_validate(values)


def find(variant: str, seed: int) -> Found:
    """Train and measure, or read what a run of the same parameters and tokens has found."""
    params = params_of(variant, seed)
    tokens = tensor.read(Path("data/tokens"))
    device = prepare(params.runtime)
    dtype = compute_dtype(params.train.precision, device)
    inputs = provenance.record(
        "train",
        {"model": params.model, "train": params.train, "evaluate": params.evaluate},
        {"tokens": [Path("data/tokens") / SUMS]},
        environment(device, dtype),
    )
    name = f"{variant}, seed {seed}".replace(" ", "-")
    table, facts = FOLDER / f"{name}.parquet", FOLDER / f"{name}.json"
    stored = json.loads(facts.read_text()) if facts.exists() else {}
    if stored.get("inputs") != inputs:
        with checkpoint.of_training(inputs, params.runtime.checkpoint_interval) as saved:
            result = train(
                params.train,
                params.model,
                training=tokens.train,
                held_out=tokens.held_out,
                device=device,
                dtype=dtype,
                log_interval=params.runtime.log_interval,
                checkpoint=saved,
            )
            with replacing(table) as partial:
                measure(variant, result.model, tokens, params.evaluate).to_parquet(partial)
            validations = result.validations.to_dict("list")
            # Last, since it says that all is there.
            write_json(
                facts, {"inputs": inputs, "outcome": outcome(result), "validations": validations}
            )
    stored = json.loads(facts.read_text())
    return Found(
        stored["inputs"]["train"]["environment"],
        stored["outcome"],
        pd.DataFrame(stored["validations"]),
        pd.read_parquet(table),
    )


def measure(variant: str, model: GPT, tokens: TokenTensor, params: Evaluate) -> pd.DataFrame:
    """The table `Found.documents`."""
    documents = tokens.documents[tokens.documents.held_out]
    if variant in LEFT_ON:
        documents = document_losses(model, tokens.held_out, documents, params)
        leave_attention_on(model)
        nats = sums(model, tokens.held_out, documents, params)
        return documents.assign(nats_attention_on=nats)
    return documents.assign(nats=sums(model.eval(), tokens.held_out, documents, params))


def sums(
    model: GPT, ids: Tokens, documents: pd.DataFrame, params: Evaluate
) -> npt.NDArray[np.float64]:
    """The loss of each document in nats, in whatever mode the model is."""
    found = losses(
        model,
        ids,
        plan(documents.tokens.to_numpy(), model.config.n_ctx, params.stride),
        params.batch_size,
        before_batch=partial(seed_dropout, params.seed, "evaluation", 0, device=model.head.device),
    )
    return by_document(found, documents)


def leave_attention_on(model: GPT) -> None:
    """Eval mode but for the dropout on the attention weights.

    That is what comes of scaled_dot_product_attention, which knows no mode, where its caller
    does not set its rate to 0.
    """
    model.eval()
    for block in model.h:
        assert isinstance(block, Block)
        block.attn.training = True  # of the module alone, not of the dropout on its output


def find_all(runtime: Runtime) -> dict[tuple[str, int], Found]:
    """Every variant with every seed, as many at once as there are cores; on a GPU one by one."""
    keys = [(variant, seed) for seed in SEEDS for variant in VARIANTS]
    at_once = os.cpu_count() if prepare(runtime).type == "cpu" else 1
    FOLDER.mkdir(exist_ok=True)
    with ProcessPoolExecutor(at_once, mp_context=get_context("spawn"), initializer=begin) as pool:
        futures = [pool.submit(find, *key) for key in keys]
        finished = progress(
            "results", "runs", runtime.log_interval, len(keys), as_completed(futures)
        )
        try:
            for future in finished:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        return {key: future.result() for key, future in zip(keys, futures, strict=True)}


def begin() -> None:
    """In a new process: listen to signals, and leave the one bar to the first process."""
    interruption.listen()
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
