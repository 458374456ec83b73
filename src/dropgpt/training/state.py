"""What a checkpoint holds: all that the next step depends on, and the curves so far."""

from typing import Any

import torch
from torch import Tensor

from dropgpt.model.gpt import GPT

State = dict[str, Tensor]
Row = tuple[Any, ...]  # of a curve: the step, then its values


def state_of(
    model: GPT, optimizer: torch.optim.Optimizer, steps: list[Row], validations: list[Row]
) -> State:
    """All that the next step depends on, and the curves so far, as tensors on the CPU."""
    tensors = {f"model.{name}": weight for name, weight in model.state_dict().items()}
    for number, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": value for name, value in moments.items()}
    tensors["steps"] = torch.tensor(steps, dtype=torch.float64)
    tensors["validations"] = torch.tensor(validations, dtype=torch.float64)
    return {name: tensor.detach().cpu() for name, tensor in tensors.items()}


def restore(
    state: State, model: GPT, optimizer: torch.optim.Optimizer
) -> tuple[list[Row], list[Row]]:
    """Put what `state_of` took back into the model and the optimizer; the curves so far."""
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
    # The validation at the step to come is taken again.
    validations = [(int(step), *values) for step, *values in state["validations"].tolist()]
    return steps, [row for row in validations if row[0] < len(steps)]
