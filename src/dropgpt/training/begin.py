"""Which kind of step a training has: that of a CPU or that of a GPU."""

import math

import torch

from dropgpt.machine import processes
from dropgpt.model.gpt import GPT
from dropgpt.model.sharding import is_sharded
from dropgpt.params import Train
from dropgpt.tokens.batches import Batches
from dropgpt.training import step_on_cpu
from dropgpt.training.optimizers import Optimizers
from dropgpt.training.step import Step
from dropgpt.training.step_on_cpu import StepOnCPU
from dropgpt.training.step_on_gpu import StepOnGPU


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
    on_cpu = model.device.type == "cpu" and not sharded
    kind = StepOnCPU if on_cpu else StepOnGPU
    return kind(model, optimizers, params, batches, dtype, at_once)
