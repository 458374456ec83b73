"""What dropout is worth given what else is done against overfitting."""

from contextlib import suppress
from dataclasses import dataclass
from itertools import product

import pandas as pd

from dropgpt.comparison.interval import Difference
from laboratory import ensembles
from laboratory.judge import difference
from laboratory.results import NotRunError, Results

RATES = ("p0", "p10", "p20", "p30")  # the first is no dropout
WINDOWS = {"moving": "", "fixed": "fixed-"}
DECAYS = {"0.1": "", "0.3": "wd0.3-", "1": "wd1-", "3": "wd3-"}
MEMBERS = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Gain:
    """Of the rate with the lowest development loss, at one length.

    given   what else is done
    best    that rate, by its name
    losses  test losses without dropout and with it, in nats a token
    found   the best rate less no dropout; None where no dropout is best
    """

    given: str
    best: str
    losses: tuple[float, float]
    found: Difference | None


def gains(results: Results, readings: int) -> list[Gain]:
    """Those whose groups are complete."""
    found = []
    for windows, decay in product(WINDOWS, DECAYS):
        settings = [f"{DECAYS[decay]}{WINDOWS[windows]}{p}" for p in RATES]
        with suppress(NotRunError):
            tests = [results.test(one, readings) for one in settings]
            development = [results.development(one, readings) for one in settings]
            given = f"weight decay {decay}, windows {windows}"
            found.append(_gain(given, tests, development, results))
    for members in MEMBERS:
        with suppress(NotRunError):
            tests = [ensembles.losses(results, p, readings, members) for p in RATES]
            development = [ensembles.development(results, p, readings) for p in RATES]
            given = f"ensembles of {members}" if members > 1 else "single models on the same texts"
            found.append(_gain(given, tests, development, results))
    return found


def _gain(
    given: str, tests: list[pd.DataFrame], development: list[float], results: Results
) -> Gain:
    best = development.index(min(development))
    losses = [float(one.sum(axis=1).mean() / results.sizes.sum()) for one in tests]
    apart = difference(tests[best] - tests[0], results) if best else None
    return Gain(given, RATES[best], (losses[0], losses[best]), apart)
