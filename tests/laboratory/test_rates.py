"""The learning rate that is tuned for each rate of dropout."""

import pandas as pd
import pytest

from laboratory.plan import Size
from laboratory.rates import GROUP, tuned
from laboratory.results import table

COLUMNS = ["readings", "p", "learning_rate", "seed", "development"]
# To which length of `rates` the map's groups of lengths look.
LENGTHS = {"short": 2, "middle": 8, "long": 32}


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


def test_the_map_takes_the_rates_that_were_tuned() -> None:
    size = Size("small")
    chosen = size.load()
    tried = table(size, chosen.groups[GROUP].variants)
    if len(tried) < len(chosen.groups[GROUP].variants):
        pytest.skip("not all of them have been tried yet")
    best = tuned(tried).set_index(["readings", "p"])
    assert not best.edge.any()
    for variant in chosen.groups["map"].variants:
        params = chosen.params(variant, 1)
        length = LENGTHS[variant.partition("-")[0]]
        found = best.learning_rate[length, params.model.dropout]
        assert params.train.learning_rate == found, variant
