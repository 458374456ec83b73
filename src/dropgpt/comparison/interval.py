"""A mean difference with its interval, how many seeds it needs, and what many tries cost.

The mean of a difference has two independent parts of variance, between documents and between
seeds, each an estimate with degrees of freedom of its own.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from dropgpt.randomness import generator

CONFIDENCE = 0.95
POWER = 0.8
MOST_SEEDS = 1000  # more are never asked for
SIMULATED = 200_000  # comparisons without a difference
LEAST_P = 1e-12  # below it a p value is rounding


@dataclass(frozen=True)
class Chance:
    """What a mean difference owes to chance.

    of_documents  the variance of the mean, had other documents been held out
    documents     how many of one size would tell as much (Kish 1965), fewer where sizes differ
    of_seeds      the variance of one seed's difference; 0 of a single seed
    """

    of_documents: float
    documents: float
    of_seeds: float
    seeds: int

    def parts(self, seeds: int) -> list[tuple[float, float]]:
        """The variance of the mean over so many seeds, in its parts with their degrees."""
        parts = [(self.of_documents, max(self.documents - 1, 1))]
        return [*parts, (self.of_seeds / seeds, seeds - 1)] if seeds > 1 else parts

    def half_width(self, confidence: float, seeds: int | None = None) -> float:
        """Half the width of the interval: the bound of Banerjee (1960), each part by its own t.

        It misses no more often than it says, whatever the parts are, and less often where both
        matter. Student's t with the degrees of Satterthwaite (1946) misses more often where seeds
        are few: the degrees are estimated, and large just where the variance comes out too small.
        """
        tail = (1 + confidence) / 2
        parts = self.parts(seeds or self.seeds)
        return math.sqrt(sum(part * special.stdtrit(free, tail) ** 2 for part, free in parts))

    def seeds_for(self, effect: float, confidence: float) -> int | None:
        """The fewest seeds that show a difference of `effect` with a power of 80%, by noncentral t.

        The spread is taken to be what was seen, and the documents to be these. None where no
        number of seeds will do, or where one seed has shown no spread yet.
        """
        if self.seeds < 2 or not effect or self._power(effect, confidence, MOST_SEEDS) < POWER:
            return None
        number = range(2, MOST_SEEDS + 1)  # the power rises with it
        return number[bisect_left(number, POWER, key=lambda n: self._power(effect, confidence, n))]

    def effect_for(self, confidence: float) -> float:
        """The difference that these seeds show with a power of 80%; see `seeds_for`."""
        from scipy import optimize  # slow to import, and only the laboratory asks for it

        half = self.half_width(confidence)
        if not half:
            return 0.0
        return float(
            optimize.brentq(
                lambda effect: self._power(effect, confidence, self.seeds) - POWER, 0, 8 * half
            )
        )

    def p_value(self, difference: float) -> float:
        """Two-sided, of a mean that lies so far from the one it is tested against.

        1 less the confidence whose interval is `difference` wide on either side.
        """
        from scipy import optimize

        far = abs(difference)
        if not far:
            return 1.0
        if self.half_width(1 - LEAST_P) <= far:
            return LEAST_P
        return float(optimize.brentq(lambda p: self.half_width(1 - p) - far, LEAST_P, 1))

    def _power(self, effect: float, confidence: float, seeds: int) -> float:
        parts = self.parts(seeds)
        variance = sum(part for part, _ in parts)
        if not variance:
            return 1.0
        deviation = math.sqrt(variance)
        critical = self.half_width(confidence, seeds) / deviation
        # Of shares, since squares of tiny or huge variances are beyond floating point.
        degrees = 1 / sum((part / variance) ** 2 / free for part, free in parts)
        found = 1 - special.nctdtr(degrees, abs(effect) / deviation, critical)
        # Where the noncentrality is large beside few degrees, scipy may have no number.
        return float(found) if math.isfinite(found) else float(abs(effect) / deviation > critical)


@dataclass(frozen=True)
class Difference:
    """Negative where ours is lower, with an interval from `low` to `high` of this confidence."""

    mean: float
    low: float
    high: float
    chance: Chance
    confidence: float = CONFIDENCE

    @property
    def seeds(self) -> int:
        return self.chance.seeds

    @property
    def verdict(self) -> str:
        if self.seeds < 2:
            return "cannot tell: one seed"
        if self.high < 0:
            return "better"
        if self.low > 0:
            return "worse"
        return "cannot tell"

    def answer(self, claim: str, margin: float = 0.0) -> str:
        """Whether "better", "worse" or "no-worse", by no more than `margin`, "holds".

        "does not hold" is said where the opposite is shown, else "cannot tell".
        """
        low, high = (-self.high, -self.low) if claim == "worse" else (self.low, self.high)
        bound = margin if claim == "no-worse" else 0.0
        if self.seeds > 1 and high < bound:
            return "holds"
        return "does not hold" if self.seeds > 1 and low > bound else "cannot tell"

    def more_seeds(self, effect: float) -> int | None:
        """How many more would show `effect` with a power of 80%; see `Chance.seeds_for`."""
        needed = self.chance.seeds_for(effect, self.confidence)
        return None if needed is None else max(0, needed - self.seeds)


def answer(found: Iterable[Difference | None], claim: str, margin: float = 0.0) -> str:
    """Of all together: "holds" where it does of each, "does not hold" where it does not of one."""
    each = [one.answer(claim, margin) if one else "cannot tell" for one in found]
    if "does not hold" in each:
        return "does not hold"
    return "holds" if each and set(each) == {"holds"} else "cannot tell"


def mean_difference(
    sums: npt.NDArray[np.float64], sizes: npt.NDArray[np.int64], confidence: float = CONFIDENCE
) -> Difference:
    """The mean of differences that add up to `sums`, (seeds, documents), in documents of `sizes`.

    `sizes` are in bytes, or in tokens: that is what the mean is taken over.

    Its variance is that between seeds, plus that between documents; see `Chance` for the interval.
    With one seed it is of the documents only, with one document of the seeds only.
    """
    seeds = len(sums)
    by_seed, shares = sums.sum(1) / sizes.sum(), sizes / sizes.sum()
    chance = Chance(
        of_documents=_documents_variance(sums.mean(0), sizes),
        documents=float(1 / (shares**2).sum()),
        of_seeds=float(by_seed.var(ddof=1)) if seeds > 1 else 0.0,
        seeds=seeds,
    )
    mean, half = float(by_seed.mean()), chance.half_width(confidence)
    return Difference(mean, mean - half, mean + half, chance, confidence)


def bonferroni(comparisons: int) -> float:
    """The confidence of each of so many intervals that hold together at 95% (Bonferroni)."""
    return 1 - (1 - CONFIDENCE) / max(1, comparisons)


def pocock(seeds: int, confidence: float = CONFIDENCE) -> float:
    """The confidence of each look, after 2, 3, ... `seeds` seeds; together they have `confidence`.

    One level for all looks, as Pocock (1977) has it, but for t tests of so few seeds: simulated,
    as the share of comparisons without a difference whose lowest p is below it. Only seeds differ
    in the simulation; documents make the interval of `Chance.half_width` wrong less often.
    """
    drawn = generator(0, "evaluation").standard_normal((SIMULATED, seeds))
    number = np.arange(2, seeds + 1)
    mean = drawn.cumsum(1)[:, 1:] / number
    variance = ((drawn**2).cumsum(1)[:, 1:] - number * mean**2) / (number - 1)
    p = 2 * special.stdtr(number - 1, -np.abs(mean) / np.sqrt(variance / number))
    return 1 - float(np.quantile(p.min(1), 1 - confidence))


def _documents_variance(sums: npt.NDArray[np.float64], sizes: npt.NDArray[np.int64]) -> float:
    """Of the mean difference, had other documents been held out: the jackknife.

    It adds up the squares of how far the mean moves where one document is left out. A bootstrap
    has too small a variance where documents are few or one is large.
    """
    rest = sizes.sum() - sizes
    if not rest.all():  # one document has all there is
        return 0.0
    moves = (sums - sizes * (sums.sum() / sizes.sum())) / rest
    return float((moves**2).sum())
