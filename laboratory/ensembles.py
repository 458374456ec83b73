"""Models of several seeds that read one text, and what the mean of their probabilities takes."""

import math
from itertools import combinations

import numpy as np
import pandas as pd

from laboratory.results import NotRunError, Results

TEXTS = (1, 2, 3)  # the seeds by which they are drawn


def of_text(text: int, p: str) -> str:
    """The setting whose seeds all read this text: text1-p20."""
    return f"text{text}-{p}"


def development(results: Results, p: str, readings: int) -> float:
    """Of single models, in nats a token, mean over the texts. Raises NotRunError."""
    each = [results.development(of_text(text, p), readings) for text in TEXTS]
    return sum(each) / len(each)


def best(results: Results, p: str) -> int:
    """The length at which single models have the lowest development loss."""
    lengths = results.lengths(of_text(TEXTS[0], p))
    return min(lengths, key=lambda n: development(results, p, n))


def losses(results: Results, p: str, readings: int, members: int) -> pd.DataFrame:
    """The nats of each test document, a row a text: mean over all choices of so many seeds.

    Raises NotRunError, also where the tokens were not kept.
    """
    rows = {}
    for text in TEXTS:
        each = results.at(of_text(text, p), readings).tokens
        if each is None:
            raise NotRunError(f"{of_text(text, p)} at {readings} readings: its tokens")
        chosen = [each.to_numpy()[list(some)] for some in combinations(range(len(each)), members)]
        # The log of the mean of the members' probabilities, of each choice; then the mean of those.
        tokens = np.mean(
            [math.log(members) - np.logaddexp.reduce(-some) for some in chosen], axis=0
        )
        begins = np.cumsum(results.sizes) - results.sizes
        rows[text] = np.add.reduceat(tokens, begins)
    return pd.DataFrame.from_dict(rows, "index")
