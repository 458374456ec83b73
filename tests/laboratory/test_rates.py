"""The learning rate that is tuned for each rate of dropout."""

import pandas as pd
import pytest

from conftest import ROOT
from laboratory.plan import Size
from laboratory.rates import tuned
from laboratory.results import TUNING, table

COLUMNS = ["readings", "p", "learning_rate", "seed", "development"]


def test_the_rate_with_the_lowest_mean_development_loss_is_taken() -> None:
    tried = [
        (2, 0.0, 1e-3, 1, 4.5),
        (2, 0.0, 2e-3, 1, 4.3),
        (2, 0.0, 4e-3, 1, 4.4),
        (2, 0.0, 4e-3, 2, 4.0),
        (2, 0.0, 2e-3, 2, 4.2),
        (2, 0.0, 1e-3, 2, 4.5),
        (2, 0.1, 1e-3, 1, 4.6),
        (2, 0.1, 2e-3, 1, 4.5),
        (2, 0.1, 4e-3, 1, 4.7),
        (8, 0.0, 1e-3, 1, 4.1),
        (8, 0.0, 2e-3, 1, 4.2),
    ]
    found = tuned(pd.DataFrame(tried, columns=COLUMNS))
    rows = found[["readings", "p", "learning_rate", "edge"]].to_numpy().tolist()
    assert rows == [[2, 0, 4e-3, True], [2, 0.1, 2e-3, False], [8, 0, 1e-3, True]]


def test_runs_have_the_learning_rates_that_were_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    """As design.md has it: lengths take the rate of 2, of 8 or of 32 readings."""
    monkeypatch.chdir(ROOT)
    size = Size("small")
    plan = size.load()
    found = tuned(table(size, plan, plan.groups[TUNING].variants))
    of_tuning = {(row.readings, row.p): row.learning_rate for row in found.itertuples()}
    for variant in plan.variants:
        if plan.group(variant).startswith(TUNING):
            continue
        params = plan.params(variant, 1)
        at = {1: 2, 2: 2, 4: 2, 6: 8, 8: 8, 12: 8, 16: 32, 32: 32, 64: 32}
        sites = [rate for _, rate in params.model.dropout_sites if rate is not None]
        for readings in params.readings:
            expected = of_tuning[at[readings], max(params.model.dropout, *sites, 0.0)]
            assert params.train.learning_rate == expected, (variant, readings)
