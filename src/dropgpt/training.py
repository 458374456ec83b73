"""The training loop."""

import math
from dataclasses import dataclass

import pandas as pd
import torch

from dropgpt.batches import batch_starts, spread_starts, windows
from dropgpt.errors import UserError
from dropgpt.evaluation import window_loss
from dropgpt.loss import cross_entropy
from dropgpt.model import GPT, initialised
from dropgpt.params import Model, Train
from dropgpt.progress import progress
from dropgpt.randomness import seed_torch
from dropgpt.tokens import Tokens


@dataclass(frozen=True)
class Result:
    """A trained model and how it came about; losses in nats a token.

    steps   one row a step: step, loss (dropout on, before the update), learning_rate,
            gradient_norm (before clipping)
    looks   one row a look at the held-out windows: step (updates so far), validation_loss
    """

    model: GPT
    steps: pd.DataFrame
    looks: pd.DataFrame


def train(
    model_params: Model,
    params: Train,
    training: Tokens,
    held_out: Tokens,
    device: torch.device,
    dtype: torch.dtype,
    log_interval: float,
) -> Result:
    """Train a GPT from (seed) on `training`, looking at `held_out` now and then.

    Raises UserError where a part is shorter than a window, where memory does not suffice, and at
    a step whose loss or gradient is not finite.
    """
    n_ctx = model_params.n_ctx
    _check_length(training, "training", n_ctx)
    _check_length(held_out, "held-out", n_ctx)
    held_out_windows = windows(
        held_out, spread_starts(len(held_out), n_ctx, params.validation_windows), n_ctx
    )
    micro_batch_size = params.micro_batch_size or params.batch_size
    model = initialised(model_params, params.seed).to(device).train()
    optimizer = torch.optim.AdamW(
        model.parameters(),
        betas=(params.beta1, params.beta2),
        weight_decay=params.weight_decay,
        fused=True,
    )
    steps, looks = [], []
    bar = progress("train", "tokens", log_interval, params.steps * params.batch_size * n_ctx)
    try:
        with bar:
            for step in range(params.steps + 1):
                if step % params.validation_interval == 0 or step == params.steps:
                    looks.append((step, window_loss(model, *held_out_windows, micro_batch_size)))
                if step == params.steps:
                    break
                starts = batch_starts(
                    len(training), n_ctx, params.batch_size, params.sampling, params.seed, step
                )
                batch = windows(training, starts, n_ctx)
                seed_torch(params.seed, "dropout", step)
                loss = _backward(model, batch, micro_batch_size, params.loss, dtype)
                norm = torch.nn.utils.clip_grad_norm_(
                    model.parameters(), params.max_gradient_norm or math.inf
                ).item()
                if not math.isfinite(loss) or not math.isfinite(norm):
                    raise UserError(
                        f"train: at step {step} the loss is {loss} and the gradient's norm {norm}; "
                        "lower train.learning_rate, or set train.max_gradient_norm"
                    )
                rate = learning_rate(params, step)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                steps.append((step, loss, rate, norm))
                bar.set_postfix_str(
                    f"step {step + 1}, loss {loss:.3f}, held-out {looks[-1][1]:.3f}", refresh=False
                )
                bar.update(params.batch_size * n_ctx)
    except torch.OutOfMemoryError:
        raise UserError(
            f"train: out of memory on {device} with train.batch_size {params.batch_size} and "
            f"train.micro_batch_size {params.micro_batch_size}; "
            f"set train.micro_batch_size below {micro_batch_size}"
        ) from None
    return Result(
        model.eval(),
        pd.DataFrame(steps, columns=["step", "loss", "learning_rate", "gradient_norm"]),
        pd.DataFrame(looks, columns=["step", "validation_loss"]),
    )


def learning_rate(params: Train, step: int) -> float:
    """The rate of step `step`: linear warm-up from 0, then as `decay` says to the last step."""
    if step < params.warmup_steps:
        return params.learning_rate * (step + 1) / (params.warmup_steps + 1)
    progress = (step - params.warmup_steps) / max(1, params.steps - params.warmup_steps)
    match params.decay:
        case "constant":
            left = 1.0
        case "linear":
            left = 1 - progress
        case "cosine":
            left = (1 + math.cos(math.pi * progress)) / 2
    return params.final_learning_rate + left * (params.learning_rate - params.final_learning_rate)


def outcome(result: Result) -> dict[str, float]:
    """The training in numbers; losses in nats a token.

    `loss` is the mean over the steps between the last two looks, dropout on; `best_step` the
    number of updates at the look with the lowest held-out loss.
    """
    looks = result.looks
    best = looks.loc[looks.validation_loss.idxmin()]
    last_steps = result.steps[result.steps.step >= looks.step.iloc[-2]]
    return {
        "loss": float(last_steps.loss.mean()),
        "validation_loss": float(looks.validation_loss.iloc[-1]),
        "best_validation_loss": float(best.validation_loss),
        "best_step": int(best.step),
        "parameters": sum(p.numel() for p in result.model.parameters()),
    }


def _backward(
    model: GPT,
    batch: tuple[torch.Tensor, torch.Tensor],
    micro_batch_size: int,
    kind: str,
    dtype: torch.dtype,
) -> float:
    """Add the gradients of the batch's mean loss, which is returned, one micro-batch at a time."""
    device = model.wte.weight.device
    inputs, targets = batch
    measured = slice(None) if kind == "all_tokens" else slice(-1, None)
    n = targets[:, measured].numel()
    total = 0.0
    for x, y in zip(inputs.split(micro_batch_size), targets.split(micro_batch_size), strict=True):
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            features = model.features(x.to(device))[:, measured].flatten(0, 1)
        nats = cross_entropy(features, model.wte.weight, y[:, measured].flatten().to(device), dtype)
        (nats / n).backward()
        total += nats.item()
    return total / n


def _check_length(tokens: Tokens, part: str, n_ctx: int) -> None:
    if len(tokens) < n_ctx + 1:
        raise UserError(
            f"the {part} part has {len(tokens)} tokens, a window of model.n_ctx {n_ctx} takes "
            f"{n_ctx + 1}: lower model.n_ctx, change tokenize.validation_fraction, or take more "
            "documents"
        )
