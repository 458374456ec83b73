"""What dropout is worth given what else is done against overfitting."""

from contextlib import suppress
from dataclasses import dataclass
from itertools import product

from dropgpt.comparison.interval import Difference
from laboratory.judge import difference
from laboratory.results import Losses, NotRunError, Results, ensemble

RATES = {"p0": "0", "p10": "0.1", "p20": "0.2", "p30": "0.3"}  # the first is no dropout
WINDOWS = {"moving": "", "fixed": "fixed-"}
DECAYS = {"0.1": "", "0.3": "wd03-", "1": "wd1-", "3": "wd3-"}
MEMBERS = (1, 2, 3, 4, 5)
CONDITION = "weight decay {}, windows {}"
OF_MAP = CONDITION.format("0.1", "moving")
# What else is done, and what begins the names of the settings with it.
CONDITIONS = {
    CONDITION.format(decay, windows): f"{DECAYS[decay]}{WINDOWS[windows]}"
    for windows, decay in product(WINDOWS, DECAYS)
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
    map       what has the lowest development loss of the map: p, readings
    lengths   at which others than the map's condition were run
    among     from how many settings it was chosen
    effect    the test loss less that of the map, its interval one of so many
    """

    readings: int
    gain: Gain
    map: tuple[str, int]
    lengths: list[int]
    among: int
    effect: Difference


def lowest(results: Results, worth: dict[int, list[Gain]]) -> Lowest | None:
    """None where it is the map's condition that has it, or that was not run, or no other.

    Of single models: several together are better than each of them by arithmetic.
    """
    each = [
        (readings, one) for readings in worth for one in worth[readings] if one.given in CONDITIONS
    ]
    others = [(readings, one) for readings, one in each if one.given != OF_MAP]
    if len(others) in (0, len(each)):
        return None
    seeds = sorted(set.intersection(*(set(one.seeds) for _, one in each)))
    if len(seeds) < 2:
        return None

    def development(losses: Losses) -> float:
        return float(losses.development[seeds].mean())

    readings, gain = min(each, key=lambda pair: development(pair[1].best))
    if gain.given == OF_MAP:
        return None
    of_map = [(setting, n) for setting in RATES for n in results.lengths(setting)]
    setting, length = min(of_map, key=lambda pair: development(results.at(*pair)))
    sums = gain.best.test.loc[seeds] - results.test(setting, length).loc[seeds]
    among = len(others) * len(RATES)
    lengths = sorted({length for length, _ in others})
    effect = difference(sums, results, among)
    return Lowest(readings, gain, (RATES[setting], length), lengths, among, effect)


def gains(results: Results, readings: int) -> list[Gain]:
    """Those whose groups are complete, all of the same seeds, and so of the same texts."""
    conditions = {given: [f"{of}{p}" for p in RATES] for given, of in CONDITIONS.items()}
    conditions |= {
        f"ensembles of {n}" if n > 1 else "single models on the same texts": [
            ensemble(f"ensembles-{p}", n) for p in RATES
        ]
        for n in MEMBERS
    }
    found: dict[str, list[Losses]] = {}
    for given, settings in conditions.items():
        with suppress(NotRunError):
            found[given] = [results.at(one, readings) for one in settings]
    of_seeds = [set(one.test.index) for each in found.values() for one in each]
    seeds = sorted(set.intersection(*of_seeds)) if of_seeds else []
    if len(seeds) < 2:  # of one, nobody knows what chance does
        return []
    return [_gain(given, each, seeds, results) for given, each in found.items()]


def _gain(given: str, each: list[Losses], seeds: list[int], results: Results) -> Gain:
    development = [float(one.development.loc[seeds].mean()) for one in each]
    tests = [one.test.loc[seeds] for one in each]
    best = development.index(min(development))
    losses = [results.mean(one) for one in tests]
    apart = difference(tests[best] - tests[0], results, len(RATES) - 1) if best else None
    p = list(RATES.values())[best]
    return Gain(given, p, seeds, (losses[0], losses[best]), apart, each[best])
