"""The learning rate that is tuned for each setting and length."""

import pandas as pd
import pytest

from conftest import ROOT
from laboratory.plan import TUNING, Size
from laboratory.rates import changes, of_plan, tuned

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
