"""The confirmatory claims of design.md, in its order, each with the number that it stands by."""

import math
from collections.abc import Callable

import pandas as pd

from laboratory.judge import Claim
from laboratory.results import NotRunError, Results, ensemble
from laboratory.worth import RATES

MARGIN = 0.01  # nats a token: what is less is as good
PASSES = 16  # of Monte Carlo dropout
TOGETHER = 3  # models in an ensemble
SHARED = (8, 12, 16, 32)  # readings
BELOW, ABOVE = (-math.inf, 0.0), (0.0, math.inf)
EQUAL = (-MARGIN, MARGIN)
Sums = Callable[[Results], pd.DataFrame]


def at(readings: int, ours: str, theirs: str) -> Sums:
    """Of trainings of that length."""
    return lambda found: found.test(ours, readings) - found.test(theirs, readings)


def best(ours: str, theirs: str) -> Sums:
    """Each at its best length."""
    return lambda found: _best(found, ours) - _best(found, theirs)


def less(ours: Sums, theirs: Sums) -> Sums:
    return lambda found: ours(found) - theirs(found)


def best_of(readings: int, ours: tuple[str, ...], theirs: tuple[str, ...]) -> Sums:
    """Of the settings on each side the one with the lowest development loss at that length."""

    def sums(found: Results) -> pd.DataFrame:
        a, b = (found.chosen(*side, among=(readings,)) for side in (ours, theirs))
        return found.test(a, readings) - found.test(b, readings)

    return sums


def gain(of: str = "") -> Sums:
    """Of the best rate over none, each at its best of the lengths that half the text and the
    narrower model have, too; negative where it helps.

    `of` begins the names of the settings, and is empty for those of the map.
    """

    def sums(found: Results) -> pd.DataFrame:
        chosen = found.chosen(*(f"{of}{p}" for p in RATES), among=SHARED)
        return _best(found, chosen, SHARED) - _best(found, f"{of}p0", SHARED)

    return sums


def monte_carlo(p: str, passes: int) -> Sums:
    """Of so many passes with dropout left on less one with it off, at the rate's best length."""

    def sums(found: Results) -> pd.DataFrame:
        losses = found.at(f"passes-{p}", found.best(p))
        if passes not in losses.monte_carlo:
            raise NotRunError(f"passes-{p}: {passes} passes")
        return losses.monte_carlo[passes] - losses.test

    return sums


def _best(found: Results, setting: str, among: tuple[int, ...] = ()) -> pd.DataFrame:
    return found.test(setting, found.best(setting, among))


def models(number: int, p: str) -> str:
    """So many models of a rate, all of one text."""
    return ensemble(f"ensembles-{p}", number)


def decayed(p: str) -> tuple[str, ...]:
    return (p, *(f"{decay}-{p}" for decay in ("wd03", "wd1", "wd3")))


CLAIMS = [
    Claim(
        "Read once, dropout of 0.1 is worse than none",
        "Liu et al. 2025",
        "1 reading, p 0.1 less p 0",
        ABOVE,
        at(1, "p10", "p0"),
    ),
    Claim(
        "Read 16 times, dropout of 0.2 is better than none",
        "Srivastava et al. 2014; Xue et al. 2023",
        "16 readings, p 0.2 less p 0",
        BELOW,
        at(16, "p20", "p0"),
    ),
    Claim(
        "Each with the number of readings that suits it, up to 64, 0.2 is better than none",
        "follows from Srivastava et al. 2014",
        "best, p 0.2 less p 0",
        BELOW,
        best("p20", "p0"),
    ),
    Claim(
        "Each with the number of readings that suits it, up to 64, 0.3 is better than 0.1",
        "a pilot with GPT-2 small",
        "best, p 0.3 less p 0.1",
        BELOW,
        best("p30", "p10"),
    ),
    Claim(
        "Read 64 times, 0.3 is better than 0.1",
        "Xue et al. 2023",
        "64 readings, p 0.3 less p 0.1",
        BELOW,
        at(64, "p30", "p10"),
    ),
    Claim(
        "Where windows move from reading to reading, dropout gains less than where they stay",
        "a trial of an earlier laboratory, at a constant learning rate",
        "16 readings, loss of p 0.2 less p 0: moving less fixed",
        ABOVE,
        less(at(16, "p20", "p0"), at(16, "fixed-p20", "fixed-p0")),
    ),
    Claim(
        "With the weight decay that suits each, 0.2 is still better than none",
        "Kim et al. 2025; Lovelace et al. 2026",
        "16 readings, each with its best weight decay, p 0.2 less p 0",
        BELOW,
        best_of(16, decayed("p20"), decayed("p0")),
    ),
    Claim(
        "An ensemble of three without dropout is better than one model with 0.2, up to 32 readings",
        "Kim et al. 2025",
        "best of 12 and 32 readings, three of p 0 less one of p 0.2",
        BELOW,
        best(models(TOGETHER, "p0"), models(1, "p20")),
    ),
    Claim(
        "An ensemble of three with 0.2 is not worse than one of three without, up to 32 readings",
        "an earlier laboratory, at a constant learning rate",
        "best of 12 and 32 readings, three of p 0.2 less three of p 0",
        (-math.inf, MARGIN),
        best(models(TOGETHER, "p20"), models(TOGETHER, "p0")),
    ),
    Claim(
        "Half the text: dropout gains more, up to 32 readings",
        "Xue et al. 2023",
        "best of 8, 12, 16 and 32 readings, loss of the best rate less p 0: half the text less all",
        BELOW,
        less(gain("half-"), gain()),
    ),
    Claim(
        "A wider model: dropout gains more, up to 32 readings",
        "Xue et al. 2023",
        "best of 8, 12, 16 and 32 readings, loss of the best rate less p 0: width 128 less 64",
        BELOW,
        less(gain(), gain("w64-")),
    ),
    Claim(
        "Dropout in the MLP alone helps",
        "Gao et al. 2025",
        "16 readings, p 0.2 in the MLP less p 0",
        BELOW,
        at(16, "only-mlp", "p0"),
    ),
    Claim(
        "Dropout of the embedding alone helps",
        "an earlier laboratory, at a constant learning rate",
        "16 readings, p 0.2 in the embedding less p 0",
        BELOW,
        at(16, "only-embedding", "p0"),
    ),
    Claim(
        "Early dropout, in the first half, is worse than all the time",
        "Liu et al. 2023, for vision",
        "16 readings, p 0.2, early less constant",
        ABOVE,
        at(16, "early", "p20"),
    ),
    Claim(
        "Late dropout, in the second half, is as good as all the time",
        "no published answer",
        "16 readings, p 0.2, late less constant",
        EQUAL,
        at(16, "late", "p20"),
    ),
    Claim(
        "Dropping keys is as good as dropping attention weights",
        "Li et al. 2023, for vision",
        "16 readings, p 0.2, keys less weights",
        EQUAL,
        at(16, "keys", "p20"),
    ),
    Claim(
        "Input tokens replaced at a rate of 0.1 help",
        "Xu 2026",
        "16 readings, replaced less not, p 0",
        BELOW,
        at(16, "masked", "p0"),
    ),
    Claim(
        "With Muon, too, 0.2 is better than none, up to 32 readings",
        "no published answer",
        "best of 8, 16 and 32 readings, Muon, p 0.2 less p 0",
        BELOW,
        best("muon-p20", "muon-p0"),
    ),
    Claim(
        f"Monte Carlo of {PASSES} passes is better than the one pass with dropout off",
        "Gal and Ghahramani 2016",
        f"best of p 0.2, {PASSES} passes less off",
        BELOW,
        monte_carlo("p20", PASSES),
    ),
    Claim(
        "Windows side by side that move are better than windows anywhere with replacement",
        "arithmetic: with replacement a reading misses 37% of the text",
        "8 readings, p 0.1, moving less anywhere",
        BELOW,
        at(8, "p10", "anywhere-p10"),
    ),
]
