"""The curves of a training, and what in them says that it has failed."""

import math

import pandas as pd
import torch

from dropgpt.errors import UserError
from dropgpt.training.state import Row

RUN_AWAY = 10  # times the loss of a uniform guess


class Curves:
    """What a training has found so far, losses in nats a token; rows as in `loop.Result`.

    steps        what has been read
    validations  all of them
    unread       steps whose loss and norm are still tensors: to read them is to wait for a GPU
    """

    def __init__(self, steps: list[Row], validations: list[Row], n_vocab: int) -> None:
        self.steps = steps
        self.validations = validations
        self.unread: list[Row] = []
        self.guess = math.log(n_vocab)

    def read(self) -> None:
        """Fetch the unread all at once. Raises UserError where one is not finite."""
        values = [value for _, loss, _, norm in self.unread for value in (loss, norm)]
        found = torch.stack(values).tolist()
        for (step, _, rate, _), loss, norm in zip(
            self.unread, found[::2], found[1::2], strict=True
        ):
            _check_finite(step, {"loss": loss, "gradient's norm": norm})
            self.steps.append((step, loss, rate, norm))
        self.unread = []

    def validated(self, step: int, loss: float) -> None:
        """Add the held-out loss after `step` updates.

        Raises UserError where it is not finite, and where it has run away: overfitting takes it to
        some times that of a guess, not to far more.
        """
        _check_finite(step, {"held-out loss": loss})
        self.validations.append((step, loss))
        if loss > max(self.validations[0][1], RUN_AWAY * self.guess):
            raise UserError(
                f"train: at step {step} the held-out loss is {loss:.4g} nats a token, where a "
                f"uniform guess has {self.guess:.1f}: the training has run away; lower "
                "train.learning_rate, or set a lower train.max_gradient_norm"
            )

    def told(self) -> str:
        """Where it is, for a line of progress."""
        lines = [f"loss {self.steps[-1][1]:.3f}"]
        updates, held_out = self.validations[-1]
        if updates:  # before the first one it is the loss of the initial weights
            lines.append(f"held-out {held_out:.3f}")
        return ", ".join(lines)

    def tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Steps and validations."""
        return (
            pd.DataFrame(self.steps, columns=["step", "loss", "learning_rate", "gradient_norm"]),
            pd.DataFrame(self.validations, columns=["step", "validation_loss"]),
        )


def _check_finite(step: int, values: dict[str, float]) -> None:
    if not all(map(math.isfinite, values.values())):
        found = " and the ".join(f"{name} is {value}" for name, value in values.items())
        remedy = "lower train.learning_rate, or set a lower train.max_gradient_norm"
        if "held-out loss" in values and not step:
            remedy = "nothing was trained yet: lower model.token_embedding_std"
        raise UserError(f"train: at step {step} the {found}; {remedy}")
