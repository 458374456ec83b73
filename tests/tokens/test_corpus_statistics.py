import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from dropgpt.tokens.statistics import _quantile


@given(st.lists(st.integers(0, 10**6), min_size=1), st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_a_quantile_is_that_of_all_documents(lengths: list[int], q: float) -> None:
    of_length = pd.Series(lengths).value_counts().sort_index()
    assert _quantile(of_length, q) == np.quantile(lengths, q)
