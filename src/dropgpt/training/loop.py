"""The training loop."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from dropgpt.errors import UserError
from dropgpt.evaluation import window_loss
from dropgpt.machine import processes
from dropgpt.machine.hardware import peak_flops
from dropgpt.machine.interruption import Interrupted, postponed
from dropgpt.machine.memory import enough_memory
from dropgpt.machine.progress import progress
from dropgpt.machine.threads import number
from dropgpt.model.gpt import GPT, initialised
from dropgpt.model.sharding import shard, unsharded
from dropgpt.params import Model, Train
from dropgpt.tokens.array import Tokens
from dropgpt.tokens.batches import Batches, spread_starts, windows
from dropgpt.tokens.tensor import TokenTensor
from dropgpt.training.begin import begin, windows_at_once
from dropgpt.training.checkpoint import Checkpoint
from dropgpt.training.compiled import able_to_compile
from dropgpt.training.curves import Curves
from dropgpt.training.optimizers import Optimizers
from dropgpt.training.schedules import learning_rate
from dropgpt.training.state import restore, state_of
from dropgpt.training.step import Step
from dropgpt.training.tracker import Tell


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
    training = tokens.train[: params.tokens]
    _check_parts(training, tokens.held_out, params, n_ctx)
    _check_shares(params, shard_weights)
    at_once = windows_at_once(params, n_ctx, device)
    advice = "lower model.n_ctx, model.n_layer or model.n_embd"
    if at_once > 1:
        advice = (
            f"train.batch_size is {params.batch_size}, {at_once} windows at once: set "
            f"train.micro_batch_size below {at_once}, or {advice}"
        )
    with (
        enough_memory(f"train, on {device}", advice),
        able_to_compile(),
        postponed() as asked_to_leave,
    ):
        model = initialised(model_params, params.seed, tokens.n_vocab).train()
        if not shard_weights:  # the first word to the others takes memory of a GPU: not the last
            model.to(device)
        for parameter in model.parameters():
            processes.tensor_from_first(parameter.detach())
        if shard_weights:
            shard(model, device)
        model.to(device)
        optimizers = Optimizers(model, params, dtype)
        batches = Batches(
            training, n_ctx, tokens.n_vocab, params, processes.share(params.batch_size)
        )
        state = checkpoint.load()
        curves = Curves(*restore(state, model, optimizers), model.n_vocab)
        if state:
            done = len(curves.steps)
            print(f"train: going on after step {done} of {params.steps}", file=sys.stderr)
            del state
        places = spread_starts(len(tokens.held_out), n_ctx, params.validation_windows)
        _Loop(
            params=params,
            model=model,
            optimizers=optimizers,
            work=begin(model, optimizers, params, batches, dtype, at_once),
            held_out=windows(tokens.held_out, places, n_ctx),
            windows_of_a_thread=max(1, at_once // number()),
            curves=curves,
            tell=tell,
            checkpoint=checkpoint,
            asked_to_leave=asked_to_leave,
            peak=(peak_flops(device, dtype) or 0) * processes.number(),
        ).run(log_interval)
    return Result((unsharded(model) if shard_weights else model).eval(), *curves.tables())


@dataclass(frozen=True)
class _Loop:
    params: Train
    model: GPT
    optimizers: Optimizers
    work: Step
    held_out: tuple[Tensor, Tensor]
    windows_of_a_thread: int  # in validations
    curves: Curves
    tell: Tell
    checkpoint: Checkpoint
    asked_to_leave: Callable[[], str | None]  # by which signal
    peak: float  # FLOP/s of the devices, 0 where they are not known

    def run(self, log_interval: float) -> None:
        params, curves = self.params, self.curves
        first = len(curves.steps)
        tokens = params.batch_size * self.model.config.n_ctx  # of a step
        total = params.steps * tokens
        with progress("train", "tokens", log_interval, total, initial=first * tokens) as bar:
            for step in range(first, params.steps):
                if step % params.validation_interval == 0:
                    self.validate(step)
                loss, norm = self.work.gradients(step)
                curves.unread.append((step, loss, learning_rate(params, step), norm))
                # Only here, between gradient and update, are the weights known to be good.
                self.look_up(step, bar)
                self.work.update(step)
                bar.update(tokens)
            self.validate(params.steps)
        self.tell(curves.steps, curves.validations)
        # So that what fails from here on, on a full disk say, costs no training.
        self.save(params.steps)
        reason = self.asked_to_leave()
        if any(processes.any_of(reason is not None)):
            raise _interrupted(reason, params.steps, params.steps)

    def validate(self, step: int) -> None:
        """Measure the held-out windows after `step` updates."""
        loss = window_loss(self.model, *self.held_out, self.windows_of_a_thread)
        self.curves.validated(step, loss)

    def look_up(self, step: int, bar: tqdm) -> None:
        """See what has been found, save it and leave, each if it is time to."""
        reason = self.asked_to_leave()
        leave, due = processes.any_of(reason is not None, self.checkpoint.due())
        last = step + 1 == self.params.steps
        if leave or due or last or len(self.curves.unread) == self.work.unread:
            self.curves.read()
            self.tell(self.curves.steps, self.curves.validations)
            bar.set_postfix_str(self.told(bar), refresh=False)
        if leave or due:
            self.save(step)
        if leave:
            raise _interrupted(reason, step, self.params.steps)

    def save(self, step: int) -> None:
        """Save what step `step` depends on."""
        curves = self.curves
        state = state_of(self.model, self.optimizers, curves.steps[:step], curves.validations)
        self.checkpoint.save(state, step)

    def told(self, bar: tqdm) -> str:
        """Where the training is, for the line of progress."""
        # Of several processes only the first has a bar that tells.
        if not self.peak or bar.disable or not (rate := bar.format_dict["rate"]):
            return self.curves.told()
        measured = 1 if self.params.loss == "all_tokens" else 1 / self.model.config.n_ctx
        share = rate * self.model.flop_of_token(measured) / self.peak
        return f"{self.curves.told()}, {share:.0%} of {self.peak / 1e12:.0f} TFLOP/s"


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


def _interrupted(reason: str | None, step: int, steps: int) -> Interrupted:
    return Interrupted(
        f"{reason or 'the end of another process'} after step {step} of {steps}, saved: "
        "the same command goes on from there"
    )


def _check_parts(training: Tokens, held_out: Tokens, params: Train, n_ctx: int) -> None:
    if (params.tokens or 0) > len(training):
        raise UserError(
            f"params.yaml: train.tokens is {params.tokens}, and the training part has only "
            f"{len(training)}"
        )
    for part, tokens in (("training", training), ("held-out", held_out)):
        if len(tokens) < n_ctx + 1:
            remedy = (
                "take more documents, or another share: tokenize.validation_fraction, or the split "
                "of data.held_out_split"
            )
            if part == "training" and params.tokens:
                remedy = "or raise train.tokens"
            raise UserError(
                f"the {part} part has {len(tokens)} tokens, a window of model.n_ctx {n_ctx} takes "
                f"{n_ctx + 1}: lower model.n_ctx, {remedy}"
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
