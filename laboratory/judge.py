"""What the runs say of claims: how sure each is, all of them taken together.

Each claim has one p value; Holm's procedure over all keeps the chance of a single false verdict on
the page at 5%, whatever is true of the others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from dropgpt.comparison.interval import CONFIDENCE, Difference, bonferroni, mean_difference
from laboratory.results import NotRunError, Results

Region = tuple[float, float]
HOLDS, NOT, CANNOT_TELL, NOT_YET_RUN = "holds", "does not hold", "cannot tell", "not yet judged"


@dataclass(frozen=True)
class Claim:
    """A claim on one number.

    number  in words
    region  in nats a token, where it must lie if the claim holds
    sums    the number's share of each test document in nats, its tokens together: (seeds,
            documents). Raises NotRunError
    """

    text: str
    source: str
    number: str
    region: Region
    sums: Callable[[Results], pd.DataFrame]


@dataclass(frozen=True)
class Verdict:
    """What is said, by the names above, and the p value of this claim alone."""

    said: str
    found: Difference | None = None
    p: float = 1.0


def judge(claims: Sequence[Claim], results: Results) -> list[Verdict]:
    """A verdict on each claim; those that were not run yet count among the claims."""
    return verdicts([claim.region for claim in claims], [_measured(c, results) for c in claims])


def verdicts(regions: Sequence[Region], found: Sequence[Difference | None]) -> list[Verdict]:
    margins = [
        min(one.mean - low, high - one.mean) if one else 0.0
        for (low, high), one in zip(regions, found, strict=True)
    ]
    # Where a region has two ends, as of equality, it is twice the p value of two one-sided tests
    # (Schuirmann 1987): room for the verdict that the number lies outside.
    p = [one.chance.p_value(far) if one else 1.0 for one, far in zip(found, margins, strict=True)]
    sure = holm(p)
    return [
        Verdict(_said(sure[i], margins[i]), one, p[i]) if one else Verdict(NOT_YET_RUN)
        for i, one in enumerate(found)
    ]


def _said(sure: bool, margin: float) -> str:
    if not sure:
        return CANNOT_TELL
    return HOLDS if margin > 0 else NOT


def holm(p: Sequence[float]) -> npt.NDArray[np.bool_]:
    """Which of these tests reject, all together wrong with a chance of 5% (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    steps = np.asarray(p)[order] <= (1 - CONFIDENCE) / np.arange(len(p), 0, -1)
    rejected = np.zeros(len(p), dtype=np.bool_)
    rejected[order] = np.logical_and.accumulate(steps)
    return rejected


def _measured(claim: Claim, results: Results) -> Difference | None:
    try:
        sums = claim.sums(results)
    except NotRunError:
        return None
    return compared(sums, results)


def compared(sums: pd.DataFrame, results: Results) -> Difference | None:
    """`difference`, where both sides have two seeds in common: of one, nobody knows what chance
    does."""
    return difference(sums, results) if len(sums.dropna()) > 1 else None


def difference(sums: pd.DataFrame, results: Results, among: int = 1) -> Difference:
    """The mean over seeds and documents, in nats a token, of what runs of one seed differ by.

    Its interval is one of so many that hold together at 95%.
    """
    return mean_difference(sums.dropna().to_numpy(), results.sizes, bonferroni(among))
