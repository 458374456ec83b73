"""The learning rate that is tuned for each rate of dropout."""

import pandas as pd

from laboratory.rates import tuned

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
