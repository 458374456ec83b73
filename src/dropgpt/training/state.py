"""What a checkpoint holds: all that the next step depends on, and the curves so far."""

from typing import Any

import torch
from torch import Tensor

from dropgpt.model.gpt import GPT
from dropgpt.training.optimizers import Optimizers

State = dict[str, Tensor]
Row = tuple[Any, ...]  # of a curve: the step, then its values


def state_of(model: GPT, optimizers: Optimizers, steps: list[Row], validations: list[Row]) -> State:
    """All that the next step depends on, and the curves so far, as tensors on the CPU."""
    tensors = {f"model.{name}": weight for name, weight in model.state_dict().items()}
    for place, optimizer in enumerate(optimizers.all):
        for number, moments in optimizer.state_dict()["state"].items():
            name = f"optimizer.{place}.{number}"
            tensors |= {f"{name}.{moment}": value for moment, value in moments.items()}
    tensors["steps"] = torch.tensor(steps, dtype=torch.float64)
    tensors["validations"] = torch.tensor(validations, dtype=torch.float64)
    return {name: tensor.detach().cpu() for name, tensor in tensors.items()}


def restore(state: State, model: GPT, optimizers: Optimizers) -> tuple[list[Row], list[Row]]:
    """Put what `state_of` took back into the model and the optimizers; the curves so far."""
    weights: State = {}
    moments: list[dict[int, State]] = [{} for _ in optimizers.all]
    for name, tensor in state.items():
        kind, _, rest = name.partition(".")
        if kind == "model":
            weights[rest] = tensor
        elif kind == "optimizer":
            place, number, moment = rest.split(".")
            moments[int(place)].setdefault(int(number), {})[moment] = tensor
    model.load_state_dict(weights)
    for optimizer, found in zip(optimizers.all, moments, strict=True):
        optimizer.load_state_dict(optimizer.state_dict() | {"state": found})
    steps = [(int(step), *values) for step, *values in state["steps"].tolist()]
    # The validation at the step to come is taken again.
    validations = [(int(step), *values) for step, *values in state["validations"].tolist()]
    return steps, [row for row in validations if row[0] < len(steps)]
