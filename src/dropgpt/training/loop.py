"""The training loop."""

import math
import os
import sys
from dataclasses import dataclass

import pandas as pd
import torch

from dropgpt.errors import UserError
from dropgpt.evaluation import window_loss
from dropgpt.machine import processes
from dropgpt.machine.hardware import enough_memory
from dropgpt.machine.interruption import Interrupted, postponed
from dropgpt.machine.progress import progress
from dropgpt.machine.threads import number
from dropgpt.model.dropout import leave_masks_uncompiled
from dropgpt.model.gpt import GPT, initialised, scale_dropout
from dropgpt.model.sharding import shard, unsharded
from dropgpt.params import Model, Train
from dropgpt.tokens.array import Tokens
from dropgpt.tokens.batches import batch_starts, spread_starts, windows
from dropgpt.tokens.tensor import TokenTensor
from dropgpt.training.checkpoint import COMPILED, Checkpoint
from dropgpt.training.gradients import clip_gradients, compiles, micro_batches, set_gradients
from dropgpt.training.optimizers import Optimizers
from dropgpt.training.schedules import dropout_factor, learning_rate
from dropgpt.training.state import Row, restore, state_of
from dropgpt.training.tracker import Tell

RUN_AWAY = 10  # times the loss of a uniform guess
# Steps at most whose loss and norm are not read yet: to read them is to wait for a GPU.
UNREAD = {"cpu": 1, "cuda": 10, "mps": 10}


@dataclass(frozen=True)
class Result:
    """A trained model and how it came about; losses in nats a token.

    steps        one row a step: step, loss (dropout on, before the update), learning_rate,
                 gradient_norm (before clipping)
    validations  one row a validation: step (updates so far), validation_loss
    """

    model: GPT
    steps: pd.DataFrame
    validations: pd.DataFrame


def train(
    params: Train,
    model_params: Model,
    tokens: TokenTensor,
    *,
    device: torch.device,
    dtype: torch.dtype,
    log_interval: float,
    checkpoint: Checkpoint,
    tell: Tell = lambda steps, validations: None,
    shard_weights: bool = False,
) -> Result:
    """Train a GPT from (seed) on the first `params.tokens` of the training part of `tokens`.

    Measures windows of the held-out part now and then; `tell` is handed the curves so far, whole,
    the rows as in `Result`. Several processes share each batch, and all return the same. Goes on
    from `checkpoint` where it holds a state, and ends in the same bits as if it had never stopped.
    Asked to leave, it saves its state and raises Interrupted. With `shard_weights` each process
    holds a part of the weights; the model returned is whole in the first one.
    Raises UserError where a part is shorter than a window or than asked for, where memory does
    not suffice, and at a step whose loss or gradient is not finite.
    """
    n_ctx = model_params.n_ctx
    training, held_out = tokens.train[: params.tokens], tokens.held_out
    if (params.tokens or 0) > len(training):
        raise UserError(
            f"params.yaml: train.tokens is {params.tokens}, and the training part has only "
            f"{len(training)}"
        )
    _check_length(training, "training", n_ctx)
    _check_length(held_out, "held-out", n_ctx)
    held_out_windows = windows(
        held_out, spread_starts(len(held_out), n_ctx, params.validation_windows), n_ctx
    )
    own = processes.share(params.batch_size)  # of the windows of a batch
    _check_shares(params, shard_weights)
    largest_share = math.ceil(params.batch_size / processes.number())
    micro_batch_size = len(micro_batches(params, largest_share, n_ctx, device)[0])
    batch_tokens = params.batch_size * n_ctx
    advice = (
        f"train.batch_size is {params.batch_size}, train.micro_batch_size "
        f"{params.micro_batch_size}: set train.micro_batch_size below {micro_batch_size}, or "
        "lower model.n_ctx, model.n_layer or model.n_embd"
    )
    with enough_memory(f"train, on {device}", advice), postponed() as asked_to_leave:
        model = initialised(model_params, params.seed, tokens.n_vocab).train()
        for parameter in model.parameters():
            processes.tensor_from_first(parameter.detach())
        if shard_weights:
            shard(model, device)
        model.to(device)
        transformed = model.transformed
        if compiles(params, device) and not shard_weights:
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(COMPILED.absolute()))
            leave_masks_uncompiled()
            transformed = torch.compile(transformed, dynamic=False)
        optimizers = Optimizers(model, params, dtype)
        unread: list[Row] = []  # the loss and the norm as tensors
        state = checkpoint.load()
        steps, validations = restore(state, model, optimizers)
        if state:
            print(f"train: going on after step {len(steps)} of {params.steps}", file=sys.stderr)
            del state
        with progress(
            "train",
            "tokens",
            log_interval,
            total=params.steps * batch_tokens,
            initial=len(steps) * batch_tokens,
        ) as bar:
            a_share = max(1, micro_batch_size // number())  # of windows, for a thread
            for step in range(len(steps), params.steps):
                if step % params.validation_interval == 0:
                    found = _validate(model, held_out_windows, a_share, step)
                    validations.append((step, found))
                    _check_not_run_away(validations, model.n_vocab)
                starts = batch_starts(
                    len(training), n_ctx, params.batch_size, params.sampling, params.seed, step
                )
                batch = windows(training, starts[own.start : own.stop], n_ctx)
                scale_dropout(model, dropout_factor(params, step))
                rate = learning_rate(params, step)
                loss = set_gradients(model, transformed, batch, params, step, dtype, own.start)
                unread.append((step, loss, rate, clip_gradients(model, params.max_gradient_norm)))
                reason = asked_to_leave()
                leave, due = processes.any_of(reason is not None, checkpoint.due())
                save = leave or due
                if save or len(unread) == UNREAD[device.type] or step + 1 == params.steps:
                    steps += _read(unread)
                    unread = []
                    tell(steps, validations)
                    bar.set_postfix_str(
                        f"step {step + 1}, loss {steps[-1][1]:.3f}, "
                        f"held-out {validations[-1][1]:.3f}",
                        refresh=False,
                    )
                # Only here, between gradient and update, are the weights known to be good.
                if save:
                    checkpoint.save(state_of(model, optimizers, steps[:step], validations), step)
                if leave:
                    raise _interrupted(reason, step, params.steps)
                optimizers.step(step, rate)
                bar.update(batch_tokens)
            last = _validate(model, held_out_windows, a_share, params.steps)
            validations.append((params.steps, last))
            _check_not_run_away(validations, model.n_vocab)
            tell(steps, validations)
        # So that what fails from here on, on a full disk say, costs no training.
        checkpoint.save(state_of(model, optimizers, steps, validations), params.steps)
        reason = asked_to_leave()
        if any(processes.any_of(reason is not None)):
            raise _interrupted(reason, params.steps, params.steps)
    return Result(
        (unsharded(model) if shard_weights else model).eval(),
        pd.DataFrame(steps, columns=["step", "loss", "learning_rate", "gradient_norm"]),
        pd.DataFrame(validations, columns=["step", "validation_loss"]),
    )


def outcome(result: Result) -> dict[str, float]:
    """The training in numbers.

    `train_loss` is the mean over the steps between the last two validations, in nats a token,
    dropout on; `best_step` the number of updates at the validation with the lowest held-out loss.
    """
    validations = result.validations
    last_steps = result.steps[result.steps.step >= validations.step.iloc[-2]]
    return {
        "train_loss": float(last_steps.loss.mean()),
        "best_step": int(validations.step[validations.validation_loss.idxmin()]),
    }


def _read(unread: list[Row]) -> list[Row]:
    """The same as numbers, all fetched at once. Raises UserError where one is not finite."""
    found = torch.stack([value for _, loss, _, norm in unread for value in (loss, norm)]).tolist()
    read = []
    for (step, _, rate, _), loss, norm in zip(unread, found[::2], found[1::2], strict=True):
        _check_finite(step, {"loss": loss, "gradient's norm": norm})
        read.append((step, loss, rate, norm))
    return read


def _validate(
    model: GPT, held_out: tuple[torch.Tensor, torch.Tensor], batch_size: int, step: int
) -> float:
    loss = window_loss(model, *held_out, batch_size)
    _check_finite(step, {"held-out loss": loss})
    return loss


def _interrupted(reason: str | None, step: int, steps: int) -> Interrupted:
    return Interrupted(
        f"{reason or 'the end of another process'} after step {step} of {steps}, saved: "
        "the same command goes on from there"
    )


def _check_finite(step: int, values: dict[str, float]) -> None:
    if not all(map(math.isfinite, values.values())):
        found = " and the ".join(f"{name} is {value}" for name, value in values.items())
        raise UserError(
            f"train: at step {step} the {found}; lower train.learning_rate, or set "
            "train.max_gradient_norm; the last checkpoint is kept"
        )


def _check_not_run_away(validations: list[Row], n_vocab: int) -> None:
    """Overfitting takes a held-out loss to some times that of a guess, not to far more."""
    (_, first), (step, last) = validations[0], validations[-1]
    guess = math.log(n_vocab)
    if last > max(first, RUN_AWAY * guess):
        raise UserError(
            f"train: at step {step} the held-out loss is {last:.4g} nats a token, where a uniform "
            f"guess has {guess:.1f}: the training has run away; lower train.learning_rate, or set "
            "train.max_gradient_norm; the last checkpoint is kept"
        )


def _check_shares(params: Train, shard_weights: bool) -> None:
    number = processes.number()
    if params.batch_size < number:
        raise UserError(
            f"params.yaml: train.batch_size is {params.batch_size}, less than the {number} "
            "processes that share a batch: lower runtime.processes"
        )
    if shard_weights and params.batch_size % number:
        raise UserError(
            f"params.yaml: train.batch_size {params.batch_size} is not divisible by the {number} "
            "processes, as runtime.shard_weights needs it"
        )
    if shard_weights and params.compile is True:
        raise UserError(
            "params.yaml: train.compile is true, which does not go with runtime.shard_weights: "
            "set it to auto or false"
        )


def _check_length(tokens: Tokens, part: str, n_ctx: int) -> None:
    if len(tokens) < n_ctx + 1:
        raise UserError(
            f"the {part} part has {len(tokens)} tokens, a window of model.n_ctx {n_ctx} takes "
            f"{n_ctx + 1}: lower model.n_ctx, change tokenize.validation_fraction, or take more "
            "documents"
        )
