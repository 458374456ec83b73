"""The training loop."""

import math
import sys
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from dropgpt.batches import batch_starts, spread_starts, windows
from dropgpt.checkpoint import Checkpoint, State
from dropgpt.errors import UserError
from dropgpt.evaluation import window_loss
from dropgpt.hardware import enough_memory
from dropgpt.interruption import Interrupted, postponed
from dropgpt.loss import cross_entropy
from dropgpt.model import GPT, initialised, scale_dropout
from dropgpt.params import Model, Train
from dropgpt.progress import progress
from dropgpt.randomness import seed_torch
from dropgpt.tokens import Tokens

Row = tuple[Any, ...]  # of a curve: the step, then its values


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
    checkpoint: Checkpoint,
) -> Result:
    """Train a GPT from (seed) on the first `params.tokens` of `training`.

    Looks at `held_out` now and then. Goes on from `checkpoint` where it holds a state, and ends in
    the same bits as if it had never stopped. Asked to leave, it saves its state and raises
    Interrupted. Raises UserError where a part is shorter than a window or than asked for, where
    memory does not suffice, and at a step whose loss or gradient is not finite.
    """
    n_ctx = model_params.n_ctx
    if (params.tokens or 0) > len(training):
        raise UserError(
            f"params.yaml: train.tokens is {params.tokens}, and the training part has only "
            f"{len(training)}"
        )
    training = training[: params.tokens]
    _check_length(training, "training", n_ctx)
    _check_length(held_out, "held-out", n_ctx)
    held_out_windows = windows(
        held_out, spread_starts(len(held_out), n_ctx, params.validation_windows), n_ctx
    )
    micro_batch_size = params.micro_batch_size or params.batch_size
    batch_tokens = params.batch_size * n_ctx
    advice = (
        f"train.batch_size is {params.batch_size}, train.micro_batch_size "
        f"{params.micro_batch_size}: set train.micro_batch_size below {micro_batch_size}, or "
        "lower model.n_ctx, model.n_layer or model.n_embd"
    )
    with enough_memory(f"train, on {device}", advice), postponed() as asked_to_leave:
        model = initialised(model_params, params.seed).to(device).train()
        optimizer = torch.optim.AdamW(
            model.parameters(),
            betas=(params.beta1, params.beta2),
            weight_decay=params.weight_decay,
            fused=True,
        )
        steps: list[Row] = []
        looks: list[Row] = []
        if state := checkpoint.load():
            steps, looks = _restore(state, model, optimizer)
            print(f"train: going on after step {len(steps)} of {params.steps}", file=sys.stderr)
        with progress(
            "train",
            "tokens",
            log_interval,
            total=params.steps * batch_tokens,
            initial=len(steps) * batch_tokens,
        ) as bar:
            for step in range(len(steps), params.steps):
                if step % params.validation_interval == 0:
                    looks.append((step, _look(model, held_out_windows, micro_batch_size, step)))
                starts = batch_starts(
                    len(training), n_ctx, params.batch_size, params.sampling, params.seed, step
                )
                batch = windows(training, starts, n_ctx)
                seed_torch(params.seed, "dropout", step)
                scale_dropout(model, dropout_factor(params, step))
                loss = _backward(model, batch, micro_batch_size, params.loss, dtype)
                norm = torch.nn.utils.clip_grad_norm_(
                    model.parameters(), params.max_gradient_norm or math.inf
                ).item()
                _check_finite(step, {"loss": loss, "gradient's norm": norm})
                # Only here, between gradient and update, are the weights known to be good.
                reason = asked_to_leave()
                if reason or checkpoint.due():
                    checkpoint.save(_state(model, optimizer, steps, looks), step)
                if reason:
                    raise _interrupted(reason, step, params.steps)
                rate = learning_rate(params, step)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                steps.append((step, loss, rate, norm))
                bar.set_postfix_str(
                    f"step {step + 1}, loss {loss:.3f}, held-out {looks[-1][1]:.3f}", refresh=False
                )
                bar.update(batch_tokens)
            last = _look(model, held_out_windows, micro_batch_size, params.steps)
            looks.append((params.steps, last))
        # So that what fails from here on, on a full disk say, costs no training.
        checkpoint.save(_state(model, optimizer, steps, looks), params.steps)
        if reason := asked_to_leave():
            raise _interrupted(reason, params.steps, params.steps)
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


def dropout_factor(params: Train, step: int) -> float:
    """By what the dropout rates are multiplied at step `step`, 0 to 1.

    early, late: 1 before or from `dropout_switch_step`, else 0. linear_up: from 0 at the first
    step to 1 at the last; linear_down: the reverse.
    """
    progress = step / max(1, params.steps - 1)
    match params.dropout_schedule:
        case "constant":
            return 1.0
        case "early":
            return float(step < params.dropout_switch_step)
        case "late":
            return float(step >= params.dropout_switch_step)
        case "linear_up":
            return progress
        case "linear_down":
            return 1 - progress


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


def _look(
    model: GPT, held_out: tuple[torch.Tensor, torch.Tensor], batch_size: int, step: int
) -> float:
    loss = window_loss(model, *held_out, batch_size)
    _check_finite(step, {"held-out loss": loss})
    return loss


def _interrupted(reason: str, step: int, steps: int) -> Interrupted:
    return Interrupted(
        f"{reason} after step {step} of {steps}, saved: the same command goes on from there"
    )


def _check_finite(step: int, values: dict[str, float]) -> None:
    if not all(map(math.isfinite, values.values())):
        found = " and the ".join(f"{name} is {value}" for name, value in values.items())
        raise UserError(
            f"train: at step {step} the {found}; lower train.learning_rate, or set "
            "train.max_gradient_norm; the last checkpoint is kept"
        )


def _state(
    model: GPT, optimizer: torch.optim.Optimizer, steps: list[Row], looks: list[Row]
) -> State:
    """All that the next step depends on, and the curves so far, as tensors on the CPU."""
    tensors = {f"model.{name}": weight for name, weight in model.state_dict().items()}
    for number, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": value for name, value in moments.items()}
    tensors["steps"] = torch.tensor(steps, dtype=torch.float64)
    tensors["looks"] = torch.tensor(looks, dtype=torch.float64)
    return {name: tensor.detach().cpu() for name, tensor in tensors.items()}


def _restore(
    state: State, model: GPT, optimizer: torch.optim.Optimizer
) -> tuple[list[Row], list[Row]]:
    """Put what `_state` took back into the model and the optimizer; the curves so far."""
    weights: State = {}
    moments: dict[int, State] = {}
    for name, tensor in state.items():
        kind, _, rest = name.partition(".")
        if kind == "model":
            weights[rest] = tensor
        elif kind == "optimizer":
            number, _, moment = rest.partition(".")
            moments.setdefault(int(number), {})[moment] = tensor
    model.load_state_dict(weights)
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
    steps = [(int(step), *values) for step, *values in state["steps"].tolist()]
    # The look at the step to come is taken again.
    looks = [(int(step), *values) for step, *values in state["looks"].tolist()]
    return steps, [look for look in looks if look[0] < len(steps)]


def _check_length(tokens: Tokens, part: str, n_ctx: int) -> None:
    if len(tokens) < n_ctx + 1:
        raise UserError(
            f"the {part} part has {len(tokens)} tokens, a window of model.n_ctx {n_ctx} takes "
            f"{n_ctx + 1}: lower model.n_ctx, change tokenize.validation_fraction, or take more "
            "documents"
        )
