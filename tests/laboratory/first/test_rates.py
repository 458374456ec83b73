"""The map: which rate is best after how many readings."""

import pandas as pd
import pytest

from laboratory.first import rates

# By p and readings. 0.1 overtakes 0 halfway between the second and the third, 0.2 never does.
LOSSES = {0.0: [5.0, 4.0, 4.0, 5.0], 0.1: [5.5, 4.1, 3.9, 3.9], 0.2: [6.0, 5.0, 5.0, 5.5]}


@pytest.fixture
def table() -> pd.DataFrame:
    """Three seeds, whose losses differ by as much at each rate."""
    rows = [
        (p, seed, readings, loss + seed / 10)
        for p, losses in LOSSES.items()
        for readings, loss in enumerate(losses, 1)
        for seed in (1, 2, 3)
    ]
    return pd.DataFrame(rows, columns=["p", "seed", "readings", "loss"])


def test_the_best_rate_after_each_number_of_readings(table: pd.DataFrame) -> None:
    found = rates.best(table)
    assert [(one.readings, one.p) for one in found] == [(1, 0.0), (2, 0.0), (3, 0.1), (4, 0.1)]
    assert found[0].loss == pytest.approx(5.2)
    assert rates.stretches(found) == [(1, 2, 0.0), (3, 4, 0.1)]


def test_rates_that_are_not_surely_worse_are_as_good(table: pd.DataFrame) -> None:
    assert rates.best(table)[1].as_good == [0.0]
    table.loc[(table.p == 0.1) & (table.readings == 2) & (table.seed == 1), "loss"] -= 0.2
    assert rates.best(table)[1].as_good == [0.0, 0.1]


def test_when_a_rate_gets_ahead(table: pd.DataFrame) -> None:
    found = rates.overtakes(table, 0.1, 0.0)
    assert found is not None
    assert (found[0].mean, found[1]) == (pytest.approx(2.5), 3)
    assert rates.overtakes(table, 0.2, 0.0) is None


def test_a_cell_is_sure_where_its_interval_leaves_out_0(table: pd.DataFrame) -> None:
    cells = rates.cells(table).set_index(["p", "readings"])
    assert len(cells) == 8
    assert cells["mean"][0.1, 1] == pytest.approx(0.5)
    assert cells.sure.all()
    table.loc[(table.seed == 1) & (table.p == 0.1), "loss"] += 2
    assert not rates.cells(table).set_index(["p", "readings"]).sure[0.1, 1]
