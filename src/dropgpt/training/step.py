"""One step of a training, as the loop knows it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from dropgpt.machine.threads import pieces
from dropgpt.model.gpt import EMBEDDINGS, GPT
from dropgpt.params import Train
from dropgpt.tokens.batches import Batches
from dropgpt.training.optimizers import Optimizers


@dataclass(eq=False)
class Step(ABC):
    """`gradients`, then `update`, for each step in turn, of a training of `model`, where it lies.

    dtype    of the large matrix products
    at_once  of a process's windows of a batch, how many are worked on together
    unread   for how many steps at most loss and norm should be left unread
    """

    model: GPT
    optimizers: Optimizers
    params: Train
    batches: Batches
    dtype: torch.dtype
    at_once: int
    unread: ClassVar[int]

    @abstractmethod
    def __post_init__(self) -> None:
        """Prepare what does not change from step to step."""

    @abstractmethod
    def gradients(self, step: int) -> tuple[Tensor, Tensor]:
        """Find the gradients of step `step`, clipped.

        Gives the batch's mean loss in nats and the norm that the gradients had before, scalars.
        Of several processes each works on its share of the windows, and all find the same.
        """

    @abstractmethod
    def update(self, step: int) -> None:
        """Move the parameters along these gradients, and let the gradients go."""

    def micro_batches(self) -> list[range]:
        """The windows that are worked on together."""
        return pieces(len(self.batches.own), self.at_once)

    def parameters_between(self) -> list[nn.Parameter]:
        """All but the two embeddings, in their order."""
        return [p for name, p in self.model.named_parameters() if name not in EMBEDDINGS]
