"""What dropout is worth given what else is done against overfitting."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import product

from dropgpt.comparison.interval import Difference
from laboratory.judge import difference
from laboratory.plan import Plan, setting
from laboratory.results import Losses, NotRunError, Results, ensemble

# By the names of the settings; the first is no dropout. `mistakes` sees to it that a name is true.
RATES = {"p0": "0", "p10": "0.1", "p20": "0.2", "p30": "0.3"}
MEMBERS = (1, 2, 3, 4, 5)
WINDOWS = {"epoch": "moving", "fixed": "fixed", "random": "anywhere"}  # by `train.sampling`
# What begins the names of the settings with something else done; of the map's, nothing does.
OF_MAP = ""
PREFIXES = [
    f"{decay}{windows}" for windows, decay in product(("", "fixed-"), ("", "wd03-", "wd1-", "wd3-"))
]


def conditions(plan: Plan) -> dict[str, str]:
    """What else is done, in words, by what begins the names of the settings with it."""
    trains = {setting(variant): plan.params(variant, 0).train for variant in plan.seeds}
    return {
        prefix: f"weight decay {own.weight_decay:g}, windows {WINDOWS[own.sampling]}"
        for prefix in PREFIXES
        if (own := trains.get(f"{prefix}p0"))
    }


@dataclass(frozen=True)
class Gain:
    """Of the rate with the lowest development loss, at one length.

    given   what else is done
    p       that rate
    seeds   whose runs these are
    losses  test losses without dropout and with it, in nats a token
    found   the best rate less no dropout, its interval one of all rates'; None where no dropout is
            best
    best    what was found of the best rate
    """

    given: str
    p: str
    seeds: list[int]
    losses: tuple[float, float]
    found: Difference | None
    best: Losses


@dataclass(frozen=True)
class Lowest:
    """What has the lowest development loss of all that was run, at any length.

    readings  that length
    gain      what was found there
    given     what else is done in the map
    map       what has the lowest development loss there: p, readings
    lengths   at which others than the map's condition were run
    among     from how many settings it was chosen
    effect    the test loss less that of the map, its interval one of so many
    """

    readings: int
    gain: Gain
    given: str
    map: tuple[str, int]
    lengths: list[int]
    among: int
    effect: Difference


def lowest(results: Results, worth: dict[int, list[Gain]], given: dict[str, str]) -> Lowest | None:
    """None where it is the map's condition that has it, or that was not run, or no other.

    `given` are the `conditions`, so single models: several together are better than each of them
    by arithmetic.
    """
    each = [
        (readings, one)
        for readings in worth
        for one in worth[readings]
        if one.given in given.values()
    ]
    of_map = given.get(OF_MAP)
    others = [(readings, one) for readings, one in each if one.given != of_map]
    if of_map is None or len(others) in (0, len(each)):
        return None
    seeds = sorted(set.intersection(*(set(one.seeds) for _, one in each)))
    if len(seeds) < 2:
        return None

    readings, gain = min(each, key=lambda pair: pair[1].best.development[seeds].mean())
    if gain.given == of_map:
        return None
    rate, length = _lowest(results, RATES, seeds)
    sums = gain.best.test.loc[seeds] - results.test(rate, length).loc[seeds]
    among = len(others) * len(RATES)
    lengths = sorted({length for length, _ in others})
    effect = difference(sums, results, among)
    return Lowest(readings, gain, of_map, (RATES[rate], length), lengths, among, effect)


@dataclass(frozen=True)
class BestEnsemble:
    """The ensembles with the lowest development loss of all of so many models.

    best      their rate and length: p, readings
    loss      on the test documents, in nats a token
    map       what has the lowest development loss of single models of the map: p, readings
    among     from how many settings it was chosen
    effect    the test loss less that of the map, its interval one of so many
    """

    members: int
    best: tuple[str, int]
    loss: float
    map: tuple[str, int]
    among: int
    effect: Difference


def best_ensemble(results: Results, members: int) -> BestEnsemble | None:
    """None where none was run."""
    rates = {ensemble(f"ensembles-{rate}", members): rate for rate in RATES}
    there = [one for one in rates if one in results.settings]
    if not there:
        return None
    seeds = [*results.at(there[0], results.lengths(there[0])[0]).test.index]
    (ours, readings), (rate, length) = (_lowest(results, of, seeds) for of in (there, RATES))
    sums = results.test(ours, readings).loc[seeds]
    among = sum(len(results.lengths(one)) for one in there)
    effect = difference(sums - results.test(rate, length).loc[seeds], results, among)
    best, of_map = (RATES[rates[ours]], readings), (RATES[rate], length)
    return BestEnsemble(members, best, results.mean(sums), of_map, among, effect)


def _lowest(results: Results, settings: Iterable[str], seeds: list[int]) -> tuple[str, int]:
    """Which of these, and with how many readings, has the lowest development loss."""
    each = [(one, readings) for one in settings for readings in results.lengths(one)]
    return min(each, key=lambda pair: results.at(*pair).development[seeds].mean())


def gains(results: Results, readings: int, given: dict[str, str]) -> list[Gain]:
    """Those whose groups are complete, all of the same seeds, and so of the same texts.

    `given` are the `conditions`; to them come ensembles.
    """
    each_rate = {words: [f"{of}{p}" for p in RATES] for of, words in given.items()}
    each_rate |= {
        f"ensembles of {n}" if n > 1 else "single models on the same texts": [
            ensemble(f"ensembles-{p}", n) for p in RATES
        ]
        for n in MEMBERS
    }
    found: dict[str, list[Losses]] = {}
    for words, settings in each_rate.items():
        with suppress(NotRunError):
            found[words] = [results.at(one, readings) for one in settings]
    of_seeds = [set(one.test.index) for each in found.values() for one in each]
    seeds = sorted(set.intersection(*of_seeds)) if of_seeds else []
    if len(seeds) < 2:  # of one, nobody knows what chance does
        return []
    return [_gain(words, each, seeds, results) for words, each in found.items()]


def _gain(given: str, each: list[Losses], seeds: list[int], results: Results) -> Gain:
    development = [float(one.development.loc[seeds].mean()) for one in each]
    tests = [one.test.loc[seeds] for one in each]
    best = development.index(min(development))
    losses = [results.mean(one) for one in tests]
    apart = difference(tests[best] - tests[0], results, len(RATES) - 1) if best else None
    p = list(RATES.values())[best]
    return Gain(given, p, seeds, (losses[0], losses[best]), apart, each[best])
