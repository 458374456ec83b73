"""Ensembles, from what each model's tokens took."""

import math

import numpy as np
import pandas as pd
import pytest

from laboratory.ensembles import losses, together


def nats(*probabilities: float) -> list[float]:
    return [-math.log(one) for one in probabilities]


def test_probabilities_are_averaged_and_not_their_logarithms() -> None:
    each = np.array([nats(0.5, 0.1, 0.2), nats(0.25, 0.3, 0.6)])
    assert losses(each, 2) == pytest.approx(nats(0.375, 0.2, 0.4))


def test_of_fewer_models_all_choices_count_alike() -> None:
    each = np.array([nats(0.5), nats(0.25), nats(0.3)])
    pairs = sum(nats(0.375, 0.4, 0.275)) / 3
    assert [float(losses(each, n)[0]) for n in (1, 2)] == pytest.approx([each.mean(), pairs])


def test_what_is_told_of_models_of_one_text_is_told_of_each_document() -> None:
    found = [
        {
            "training": 1.0,
            "development": 4.0,
            "test": [1.0, 2.0],
            "tokens": {"development": nats(0.5, 0.5), "test": nats(0.5, 0.1, 0.2)},
        },
        {
            "training": 2.0,
            "development": 5.0,
            "test": [3.0, 2.0],
            "tokens": {"development": nats(0.5, 0.25), "test": nats(0.25, 0.3, 0.6)},
        },
    ]
    both = together(found, pd.DataFrame({"tokens": [2, 1]}))
    assert (both["training"], both["development"], both["test"]) == (1.5, 4.5, [2.0, 2.0])
    two = both["ensembles"][2]
    assert two["test"] == pytest.approx([sum(nats(0.375, 0.2)), *nats(0.4)], abs=5e-4)
    assert two["development"] == pytest.approx(sum(nats(0.5, 0.375)) / 2)
