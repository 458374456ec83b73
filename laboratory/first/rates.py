"""The map: which rate of dropout is best after how many readings of the text.

A training with a constant learning rate passes through every number of readings, so that one run
of a rate and a seed tells of all of them.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from dropgpt.comparison.interval import Difference, mean_difference
from laboratory.first.results import Results

# variant -> p, in the order of p
Rates = dict[str, float]


def rates(results: Results, variants: list[str]) -> Rates:
    """Those of the `variants` with which runs have been made, by their probability of dropping."""
    made = {
        variant: results[variant, seeds[0]].made_by["params"]["model"]["dropout"]
        for variant in variants
        if (seeds := results.seeds(variant))
    }
    return dict(sorted(made.items(), key=lambda item: item[1]))


def curves(results: Results, variants: Rates) -> pd.DataFrame:
    """The held-out loss in nats a token by rate, seed and number of readings, from 1 on.

    Of the seeds with which all rates were run. Columns: p, seed, readings, loss.
    """
    parts = [
        results[variant, seed].curve.assign(p=p, seed=seed)
        for variant, p in variants.items()
        for seed in results.seeds(*variants)
    ]
    table = pd.concat(parts, ignore_index=True)
    table["readings"] = table.readings.round().astype(int)
    return table[table.readings > 0]


def differences(table: pd.DataFrame, p: float, other: float) -> dict[int, Difference]:
    """By number of readings, how the loss at `p` differs from that at `other`, over the seeds."""
    rows = by_seed(table, p, other).iterrows()
    return {int(readings): over_seeds(row.to_numpy()) for readings, row in rows}


def by_seed(table: pd.DataFrame, p: float, other: float) -> pd.DataFrame:
    """The loss at `p` less that at `other`, a row a number of readings and a column a seed."""
    wide = table.pivot_table(index="readings", columns=["p", "seed"], values="loss")
    return wide[p] - wide[other]


def over_seeds(values: npt.NDArray[np.float64]) -> Difference:
    """The mean of one value a seed, with its 95% interval."""
    return mean_difference(values[:, None], np.ones(1, dtype=np.int64))


def cells(table: pd.DataFrame) -> pd.DataFrame:
    """One row a rate above 0 and number of readings: p, readings, mean, low, high, sure.

    mean, low and high are of the loss less that without dropout; sure says that the interval
    leaves out 0.
    """
    rows = []
    for p in sorted(set(table.p) - {0.0}):
        for readings, found in differences(table, p, 0.0).items():
            sure = found.low > 0 or found.high < 0
            rows.append((p, readings, found.mean, found.low, found.high, sure))
    return pd.DataFrame(rows, columns=["p", "readings", "mean", "low", "high", "sure"])


@dataclass(frozen=True)
class Best:
    """The rate with the lowest mean loss after so many readings, and those as good.

    as_good  the rates whose loss is not surely above that of the best
    loss     nats a token at the best rate, mean over the seeds
    """

    readings: int
    p: float
    as_good: list[float]
    loss: float


def best(table: pd.DataFrame) -> list[Best]:
    """For each number of readings."""
    means = table.groupby(["readings", "p"]).loss.mean().unstack()
    lowest = means.idxmin(axis=1)
    worse = {(p, q): differences(table, q, p) for p in set(lowest) for q in set(table.p) if p != q}
    return [
        Best(
            int(n),
            float(p),
            sorted(q for q in set(table.p) if q == p or not worse[p, q][int(n)].low > 0),
            float(means.loc[n, p]),
        )
        for n, p in lowest.items()
    ]


def overtakes(table: pd.DataFrame, p: float, other: float) -> tuple[Difference, int] | None:
    """After how many readings the loss at `p` falls below that at `other`, for good, over seeds.

    Between two validations along a straight line. The number of seeds in which it does is told,
    too; None where it does in fewer than two.
    """
    found = []
    for _, gap in by_seed(table, p, other).items():
        above = np.flatnonzero(gap.to_numpy() >= 0)
        if not len(above):
            found.append(float(gap.index[0]))
        elif above[-1] + 1 < len(gap):
            i = above[-1]
            share = gap.iloc[i] / (gap.iloc[i] - gap.iloc[i + 1])
            found.append(float(gap.index[i] + share * (gap.index[i + 1] - gap.index[i])))
    if len(found) < 2:
        return None
    return over_seeds(np.array(found)), len(found)


def stretches(bests: list[Best]) -> list[tuple[int, int, float]]:
    """First and last number of readings, and the best rate in between."""
    found: list[tuple[int, int, float]] = []
    for one in bests:
        if found and math.isclose(found[-1][2], one.p):
            found[-1] = (found[-1][0], one.readings, one.p)
        else:
            found.append((one.readings, one.readings, one.p))
    return found
