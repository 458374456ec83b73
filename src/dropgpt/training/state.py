"""What a checkpoint holds: all that the next step depends on, and the curves so far."""

from typing import Any

import torch
from torch import Tensor

from dropgpt.machine import processes
from dropgpt.model.gpt import GPT
from dropgpt.model.sharding import gathered, local, part
from dropgpt.training.optimizers import Optimizers

State = dict[str, Tensor]
Row = tuple[Any, ...]  # of a curve: the step, then its values


def state_of(model: GPT, optimizers: Optimizers, steps: list[Row], validations: list[Row]) -> State:
    """All that the next step depends on, and the curves so far, as tensors on the CPU.

    Of several processes only the first one is given it.
    """
    tensors = {
        "steps": torch.tensor(steps, dtype=torch.float64),
        "validations": torch.tensor(validations, dtype=torch.float64),
    }
    for name, tensor in _tensors(model, optimizers).items():
        whole = gathered(local(tensor.detach()), tensor)
        if not processes.rank():
            tensors[name] = whole.cpu()
    return tensors


def restore(state: State | None, model: GPT, optimizers: Optimizers) -> tuple[list[Row], list[Row]]:
    """Put what `state_of` took, if there is any, back into the model and the optimizers.

    Of several processes the first one has it. Gives each of them the curves so far.
    """
    if not processes.from_first(state is not None):
        return [], []
    for name, tensor in _tensors(model, optimizers).items():
        whole = torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)
        if state is not None:
            whole.copy_(state[name])
        local(tensor.detach()).copy_(part(processes.tensor_from_first(whole), tensor))
    rows = state and [state[name].tolist() for name in ("steps", "validations")]
    steps, validations = (
        [(int(step), *values) for step, *values in curve] for curve in processes.from_first(rows)
    )
    # The validation at the step to come is taken again.
    return steps, [row for row in validations if row[0] < len(steps)]


def _tensors(model: GPT, optimizers: Optimizers) -> State:
    """The weights, and what the optimizers remember of each."""
    tensors: State = {}
    for name, parameter in model.named_parameters():
        tensors[f"model.{name}"] = parameter
        for moment, value in optimizers.moments[name].items():
            tensors[f"{moment}.{name}"] = value
    return tensors
