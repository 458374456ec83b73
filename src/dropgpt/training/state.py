"""What a checkpoint holds: all that the next step depends on, and the curves so far."""

from typing import Any

import torch
from torch import Tensor

from dropgpt.machine import processes
from dropgpt.model.gpt import GPT
from dropgpt.training.optimizers import Optimizers

State = dict[str, Tensor]
Row = tuple[Any, ...]  # of a curve: the step, then its values


def state_of(model: GPT, optimizers: Optimizers, steps: list[Row], validations: list[Row]) -> State:
    """All that the next step depends on, and the curves so far, as tensors on the CPU."""
    tensors = _tensors(model, optimizers)
    tensors["steps"] = torch.tensor(steps, dtype=torch.float64)
    tensors["validations"] = torch.tensor(validations, dtype=torch.float64)
    return {name: tensor.detach().cpu() for name, tensor in tensors.items()}


def restore(state: State, model: GPT, optimizers: Optimizers) -> tuple[list[Row], list[Row]]:
    """Put what `state_of` took back into the model and the optimizers; the curves so far."""
    for name, tensor in _tensors(model, optimizers).items():
        tensor.detach().copy_(state[name])
    steps = [(int(step), *values) for step, *values in state["steps"].tolist()]
    # The validation at the step to come is taken again.
    validations = [(int(step), *values) for step, *values in state["validations"].tolist()]
    return steps, [row for row in validations if row[0] < len(steps)]


def share(model: GPT, optimizers: Optimizers) -> None:
    """Have all processes go on with the weights and moments of the first one."""
    processes.tensors_from_first(list(_tensors(model, optimizers).values()))


def _tensors(model: GPT, optimizers: Optimizers) -> State:
    """The weights, and what the optimizers remember of each."""
    tensors: State = {}
    for name, parameter in model.named_parameters():
        tensors[f"model.{name}"] = parameter
        for moment, value in optimizers.moments[name].items():
            tensors[f"{moment}.{name}"] = value
    return tensors
