import pandas as pd
import pytest

from laboratory.first.tables import by_size


@pytest.mark.parametrize(
    ("best", "said"),
    [
        (["0", "0.1", "0.1"], "the best rate is 0, 0.1, 0.1: it never falls"),
        (["0.1", "0.2", "0.05"], "the best rate is 0.1, 0.2, 0.05: it falls in places"),
        (["0.1", "0.2"], ""),  # two rows say nothing
    ],
)
def test_whether_parameters_a_token_order_the_best_rates(best: list[str], said: str) -> None:
    table = pd.DataFrame({"best p after 16": [f"**{p}**" for p in best]})
    assert said in by_size(table)
    assert bool(said) == bool(by_size(table))
