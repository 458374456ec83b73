"""Ensembles, from what each model's tokens took."""

import math

import numpy as np
import pandas as pd
import pytest

from laboratory import ensembles
from laboratory.results import Losses, NotRunError, Results

SIZES = np.array([2, 1])


def results(tokens: list[list[float]] | None) -> Results:
    """The same models on each of the texts; development losses that choose 16 readings."""

    def losses(development: float) -> Losses:
        each = pd.DataFrame(tokens) if tokens else None
        return Losses(pd.Series([development]), pd.DataFrame(), pd.Series(), {}, each)

    lengths = {12: losses(4.1), 16: losses(4.0)}
    return Results({ensembles.of_text(text, "p0"): lengths for text in ensembles.TEXTS}, SIZES)


def nats(*probabilities: float) -> list[float]:
    return [-math.log(one) for one in probabilities]


def test_probabilities_are_averaged_and_not_their_logarithms() -> None:
    found = results([nats(0.5, 0.1, 0.2), nats(0.25, 0.3, 0.6)])
    both = ensembles.losses(found, "p0", ensembles.best(found, "p0"), 2)
    expected = [-math.log(0.375) - math.log(0.2), -math.log(0.4)]
    for text in ensembles.TEXTS:
        assert both.loc[text].tolist() == pytest.approx(expected)


def test_of_fewer_members_all_choices_count_alike() -> None:
    found = results([nats(0.5, 0.1, 0.2), nats(0.25, 0.3, 0.6)])
    single = ensembles.losses(found, "p0", 16, 1)
    expected = [(sum(nats(0.5, 0.1)) + sum(nats(0.25, 0.3))) / 2, sum(nats(0.2, 0.6)) / 2]
    assert single.loc[1].tolist() == pytest.approx(expected)


def test_without_tokens_there_is_none() -> None:
    with pytest.raises(NotRunError):
        ensembles.losses(results(None), "p0", 16, 3)
