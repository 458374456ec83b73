"""The main result: what each rate of dropout does at each number of readings, and at its best one.

All is chosen on development documents and told of test documents, in nats a token.
"""

from collections import Counter
from dataclasses import dataclass

from dropgpt.comparison.interval import Difference
from dropgpt.randomness import generator
from laboratory.judge import difference, holm
from laboratory.results import Results

DRAWN_AGAIN = 2000


@dataclass(frozen=True)
class Row:
    """Trainings of one length.

    best  the setting with the lowest development loss
    ties  those that are not surely worse than it, all of a row together
    gain  of the best over no dropout, its interval one of all rates'; None where it is no dropout
    """

    readings: int
    best: str
    ties: list[str]
    loss: float
    gain: Difference | None
    effects: dict[str, Difference]


@dataclass(frozen=True)
class Best:
    """A rate with the number of readings that suits it.

    at_end       no longer training was run, so that one might suit it better
    tied         it is not surely worse than the best of all, all of them together
    chosen       how often each length would be, were the seeds drawn again
    development  the loss by which it is chosen
    effect       beside no dropout at its best length, its interval one of all rates'; None of no
                 dropout itself
    """

    setting: str
    readings: int
    at_end: bool
    tied: bool
    chosen: dict[int, float]
    development: float
    loss: float
    effect: Difference | None


def rows(results: Results, settings: list[str]) -> list[Row]:
    """A row for each length that all the settings have; the first setting is no dropout."""
    shared = set.intersection(*(set(results.lengths(one)) for one in settings))
    return [_row(results, settings, readings) for readings in sorted(shared)]


def _row(results: Results, settings: list[str], readings: int) -> Row:
    none = settings[0]
    best = results.chosen(*settings, among=(readings,))

    def less(ours: str, theirs: str, among: int = 1) -> Difference:
        tests = results.test(ours, readings), results.test(theirs, readings)
        return difference(tests[0] - tests[1], results, among)

    return Row(
        readings,
        best,
        not_worse({one: less(one, best) for one in settings if one != best}),
        results.loss(best, readings),
        less(best, none, len(settings) - 1) if best != none else None,
        {one: less(one, none) for one in settings if one != none},
    )


def not_worse(beside: dict[str, Difference]) -> list[str]:
    """Those that are not surely worse than the one that they are beside, all of them together."""
    sure = holm([found.chance.p_value(found.mean) for found in beside.values()])
    return [
        one for one, apart in zip(beside, sure, strict=True) if not apart or beside[one].mean < 0
    ]


def bests(results: Results, settings: list[str]) -> list[Best]:
    none = settings[0]
    at_best = {one: results.best(one) for one in settings}
    tests = {one: results.test(one, at_best[one]) for one in settings}
    best = min(settings, key=lambda one: results.development(one, at_best[one]))
    tied = not_worse(
        {one: difference(tests[one] - tests[best], results) for one in settings if one != best}
    )
    return [
        Best(
            one,
            at_best[one],
            at_best[one] == results.lengths(one)[-1],
            one in tied,
            chosen_again(results, one),
            results.development(one, at_best[one]),
            results.loss(one, at_best[one]),
            None
            if one == none
            else difference(tests[one] - tests[none], results, len(settings) - 1),
        )
        for one in settings
    ]


def chosen_again(results: Results, setting: str) -> dict[int, float]:
    """The share of draws of as many seeds, with replacement, that choose each length."""
    lengths = results.lengths(setting)
    each = [results.at(setting, readings).development.to_numpy() for readings in lengths]
    seeds = len(each[0])
    drawn = generator(0, "evaluation", setting).integers(seeds, size=(DRAWN_AGAIN, seeds))
    lowest = [min(range(len(each)), key=lambda n: each[n][draw].mean()) for draw in drawn]
    counts = Counter(lengths[n] for n in lowest)
    return {readings: count / DRAWN_AGAIN for readings, count in sorted(counts.items())}
