"""The learning rate that is tuned for each setting and length."""

import pandas as pd
import pytest

from conftest import ROOT
from laboratory.plan import TUNING, Size
from laboratory.rates import between, changes, of_plan, tuned

COLUMNS = ["readings", "changes", "learning_rate", "seed", "development"]


def test_the_rate_with_the_lowest_mean_development_loss_is_taken() -> None:
    tried = [
        (2, "p0", 1e-3, 1, 4.5),
        (2, "p0", 2e-3, 1, 4.3),
        (2, "p0", 4e-3, 1, 4.4),
        (2, "p0", 4e-3, 2, 4.0),
        (2, "p0", 2e-3, 2, 4.2),
        (2, "p0", 1e-3, 2, 4.5),
        (2, "p10", 1e-3, 1, 4.6),
        (2, "p10", 2e-3, 1, 4.5),
        (2, "p10", 4e-3, 1, 4.7),
        (8, "p0", 1e-3, 1, 4.1),
        (8, "p0", 2e-3, 1, 4.2),
    ]
    found = tuned(pd.DataFrame(tried, columns=COLUMNS))
    rows = found[["readings", "changes", "learning_rate", "edge"]].to_numpy().tolist()
    assert rows == [[2, "p0", 4e-3, True], [2, "p10", 2e-3, False], [8, "p0", 1e-3, True]]


def test_a_parabola_says_what_a_finer_search_might_gain() -> None:
    """Through rates one step apart: its lowest point is 0.04 of a step's square from the middle."""
    tried = pd.DataFrame(
        [
            (8, p, rate * 1e-3, 4 + 0.1 * (step - lowest) ** 2)
            for p, lowest in (("p0", 0.2), ("p10", 0.0), ("p20", 5.0))
            for step, rate in ((-1, 1), (0, 2), (1, 4))
        ],
        columns=["readings", "changes", "learning_rate", "development"],
    )
    found = between(tried)
    assert found.changes.tolist() == ["p0", "p10"]  # of p20 the best is at an end
    assert found.lower.tolist() == pytest.approx([0.1 * 0.2**2, 0.0], abs=1e-12)


def test_runs_have_the_learning_rates_that_were_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting for itself, at each length; ensembles have those of single models."""
    monkeypatch.chdir(ROOT)
    size = Size("small")
    plan = size.load()
    found = of_plan(size, plan)
    best = {(row.readings, row.changes): row.learning_rate for row in found.itertuples()}
    for variant in plan.seeds:
        if plan.group(variant).startswith(TUNING):
            continue
        params = plan.params(variant, 1)
        for readings in params.readings:
            expected = best[readings, changes(plan, variant)]
            assert params.train.learning_rate == expected, (variant, readings)
