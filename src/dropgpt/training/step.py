"""One step of a training, in one way on a CPU and in another on a GPU."""

import math
from typing import Protocol

import torch
from torch import Tensor

from dropgpt.machine import processes
from dropgpt.model.gpt import GPT
from dropgpt.model.sharding import is_sharded
from dropgpt.params import Train
from dropgpt.tokens.batches import Batches
from dropgpt.training import step_on_cpu
from dropgpt.training.optimizers import Optimizers
from dropgpt.training.step_on_cpu import StepOnCPU
from dropgpt.training.step_on_gpu import StepOnGPU


class Step(Protocol):
    """`gradients`, then `update`, for each step in turn.

    unread  for how many steps at most loss and norm should be left unread
    """

    unread: int

    def gradients(self, step: int) -> tuple[Tensor, Tensor]:
        """Find the gradients of step `step`, clipped.

        Gives the batch's mean loss in nats and the norm that the gradients had before, scalars.
        Of several processes each works on its share of the windows, and all find the same.
        """

    def update(self, step: int) -> None:
        """Move the parameters along these gradients, and let the gradients go."""


def windows_at_once(params: Train, n_ctx: int, device: torch.device) -> int:
    """Of a process's share of a batch, how many windows are worked on together."""
    share = math.ceil(params.batch_size / processes.number())
    quick = step_on_cpu.quick(n_ctx) if device.type == "cpu" else share
    return min(share, params.micro_batch_size or quick)


def begin(
    model: GPT,
    optimizers: Optimizers,
    params: Train,
    batches: Batches,
    dtype: torch.dtype,
    at_once: int,
) -> Step:
    """The steps of a training of `model`, where it lies; the large products in `dtype`."""
    sharded = any(map(is_sharded, model.parameters()))
    # Threads of a CPU do not share out weights that processes hold in parts.
    on_cpu = model.wte.weight.device.type == "cpu" and not sharded
    kind = StepOnCPU if on_cpu else StepOnGPU
    return kind(model, optimizers, params, batches, dtype, at_once)
