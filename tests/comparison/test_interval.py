"""What verdicts promise: how often they are wrong, and how many seeds they need."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from benchmarks.verdicts import (
    DEFAULT,
    DOCUMENTS_ONLY,
    EVEN,
    SEEDS_ONLY,
    UNEQUAL,
    Spread,
    compared,
    tried,
)
from dropgpt.comparison.interval import (
    Chance,
    Difference,
    answer,
    bonferroni,
    mean_difference,
    pocock,
)

CHANCE = Chance(of_documents=1e-7, documents=40, of_seeds=4.5e-6, seeds=3)
quick_and_whole = pytest.mark.parametrize(
    "times", [100, pytest.param(2000, marks=pytest.mark.slow)]
)


def bounds(low: float, high: float, times: int) -> tuple[float, float]:
    """Those shares, of 2,000; of fewer simulations with as much more room for chance."""
    room = 4 * math.sqrt(0.05 * 0.95) * (1 / math.sqrt(times) - 1 / math.sqrt(2000))
    return low - room, high + room


@pytest.mark.parametrize("seeds", [2, 3, 8])
@pytest.mark.parametrize("confidence", [0.95, bonferroni(9)])
def test_the_interval_is_never_wrong_more_often_than_it_says(seeds: int, confidence: float) -> None:
    """By integration over both estimates of variance, for all shares of seeds in the whole."""
    of_seeds = stats.chi2.ppf((np.arange(300) + 0.5) / 300, seeds - 1) / (seeds - 1)
    of_documents = stats.chi2.ppf((np.arange(8) + 0.5) / 8, 39) / 39
    wrong = []
    for share in (0.0, 0.1, 0.5, 0.9, 0.98, 1.0):
        halves = [
            Chance((1 - share) * d, 40, share * seeds * s, seeds).half_width(confidence)
            for d in of_documents
            for s in of_seeds
        ]
        wrong.append(2 * stats.norm.sf(halves).mean() / (1 - confidence))
    assert max(wrong) < 1.05
    assert wrong[0] > 0.9
    assert wrong[-1] > 0.95


@quick_and_whole
@pytest.mark.parametrize(
    ("spread", "low"),
    [(SEEDS_ONLY, 0.04), (DEFAULT, 0.035), (EVEN, 0), (DOCUMENTS_ONLY, 0.04), (UNEQUAL, 0)],
    ids=["seeds", "run", "both", "documents", "unequal"],
)
def test_three_seeds_that_do_not_differ_are_called_so(
    spread: Spread, low: float, times: int
) -> None:
    random = np.random.default_rng(2)
    wrong = np.mean([compared(random, spread, 3) != ["cannot tell"] for _ in range(times)])
    low, high = bounds(low, 0.06, times)
    assert low <= wrong <= high


@quick_and_whole
@pytest.mark.parametrize(
    ("spread", "groups", "seeds", "low"),
    [(SEEDS_ONLY, 3, 3, 0.035), (SEEDS_ONLY, 9, 3, 0.035), (DEFAULT, 9, 3, 0), (EVEN, 3, 5, 0)],
    ids=str,
)
def test_of_many_changes_none_is_called_better_more_often(
    spread: Spread, groups: int, seeds: int, low: float, times: int
) -> None:
    times = max(times, 400)
    random = np.random.default_rng(3)
    found = [compared(random, spread, seeds, groups) for _ in range(times)]
    wrong = np.mean([set(verdicts) != {"cannot tell"} for verdicts in found])
    low, high = bounds(low, 0.06, times)
    assert low <= wrong <= high


@quick_and_whole
@pytest.mark.parametrize(
    ("spread", "low"), [(SEEDS_ONLY, 0.04), (DEFAULT, 0), (EVEN, 0)], ids=["seeds", "run", "both"]
)
def test_looking_after_each_seed_is_wrong_no_more_often(
    spread: Spread, low: float, times: int
) -> None:
    times //= 1 if times == 2000 else 3
    random = np.random.default_rng(4)
    wrong = np.mean([tried(random, spread, 8).verdict != "cannot tell" for _ in range(times)])
    low, high = bounds(low, 0.06, times)
    assert low <= wrong <= high


def test_more_looks_ask_for_more() -> None:
    levels = [pocock(seeds) for seeds in (2, 3, 8, 20)]
    assert levels == sorted(levels)
    assert levels[0] == pytest.approx(0.95, abs=0.001)  # one look
    assert pocock(8, bonferroni(10)) > levels[2]


@pytest.mark.parametrize("confidence", [0.95, bonferroni(3)])
def test_as_many_seeds_as_are_asked_for_find_the_difference(confidence: float) -> None:
    """A simulation with that many finds it in 80%."""
    effect = 0.003
    seeds = CHANCE.seeds_for(effect, confidence)
    assert seeds is not None
    random = np.random.default_rng(5)
    means = effect + random.normal(0, math.sqrt(CHANCE.of_seeds), (400, seeds))
    found = 0
    for by_seed in means:
        of_documents = random.normal(0, math.sqrt(CHANCE.of_documents * 40), 40)
        chance = Chance(of_documents.var(ddof=1) / 40, 40, float(by_seed.var(ddof=1)), seeds)
        mean = by_seed.mean() + of_documents.mean()
        found += mean > chance.half_width(confidence)
    assert 0.74 <= found / 400 <= 0.9


def test_seeds_that_nothing_can_say_are_none() -> None:
    assert Chance(1e-7, 40, 0.0, 1).seeds_for(1, 0.95) is None  # one seed has no spread
    assert CHANCE.seeds_for(0.0, 0.95) is None
    assert CHANCE.seeds_for(0.0002, 0.95) is None  # lost among the documents
    assert Chance(0.0, 1, 0.0, 2).seeds_for(0.1, 0.95) == 2  # no chance at all


@pytest.mark.parametrize("unit", [1e-90, 1e-60, 1e60, 1e100])
def test_the_unit_of_the_loss_changes_no_number_of_seeds(unit: float) -> None:
    """Whatever a result file says, no square of it is too small or too large to reckon with."""
    chance = replace(
        CHANCE, of_documents=CHANCE.of_documents * unit**2, of_seeds=CHANCE.of_seeds * unit**2
    )
    assert chance.seeds_for(0.003 * unit, 0.95) == CHANCE.seeds_for(0.003, 0.95)


def test_what_nothing_can_say_of_documents_is_left_to_the_seeds() -> None:
    sums = np.random.default_rng(6).normal(0, 1, (3, 2))
    for sizes in ([1, 0], [0, 1]):
        assert mean_difference(sums, np.array(sizes)).chance.of_documents == 0
    assert mean_difference(sums, np.array([1, 1])).chance.of_documents > 0


def difference(low: float, high: float, seeds: int = 3) -> Difference:
    return Difference((low + high) / 2, low, high, replace(CHANCE, seeds=seeds))


@pytest.mark.parametrize(
    ("claim", "low", "high", "told"),
    [
        ("better", -2, -1, "holds"),
        ("better", -1, 1, "cannot tell"),
        ("better", 1, 2, "does not hold"),
        ("worse", 1, 2, "holds"),
        ("worse", -2, -1, "does not hold"),
        ("no-worse", -1, 0.4, "holds"),
        ("no-worse", 0.1, 0.4, "holds"),  # worse, but by no more than that
        ("no-worse", 0.4, 0.6, "cannot tell"),
        ("no-worse", 0.6, 0.7, "does not hold"),
    ],
)
def test_a_claim(claim: str, low: float, high: float, told: str) -> None:
    assert difference(low, high).answer(claim, 0.5) == told
    assert difference(low, high, seeds=1).answer(claim, 0.5) == "cannot tell"


def test_a_claim_of_several_holds_of_all_or_falls_with_one() -> None:
    better, worse, unsure = difference(-2, -1), difference(1, 2), difference(-1, 1)
    assert answer([better, better], "better") == "holds"
    assert answer([better, unsure], "better") == "cannot tell"
    assert answer([better, None], "better") == "cannot tell"
    assert answer([better, unsure, worse], "better") == "does not hold"
    assert answer([], "better") == "cannot tell"


def test_intervals_that_hold_together_are_wider() -> None:
    sums = np.random.default_rng(6).normal(0, 1, (3, 40))
    one, of_two = (mean_difference(sums, np.ones(40, int), bonferroni(n)) for n in (1, 2))
    assert of_two.low < one.low < one.high < of_two.high
