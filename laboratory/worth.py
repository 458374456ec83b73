"""What dropout is worth given what else is done against overfitting."""

from contextlib import suppress
from dataclasses import dataclass
from itertools import product

import pandas as pd

from dropgpt.comparison.interval import Difference
from laboratory.judge import difference
from laboratory.results import NotRunError, Results

RATES = {"p0": "0", "p10": "0.1", "p20": "0.2", "p30": "0.3"}  # the first is no dropout
WINDOWS = {"moving": "", "fixed": "fixed-"}
DECAYS = {"0.1": "", "0.3": "wd03-", "1": "wd1-", "3": "wd3-"}


@dataclass(frozen=True)
class Gain:
    """Of the rate with the lowest development loss, at one length.

    given   what else is done
    p       that rate
    losses  test losses without dropout and with it, in nats a token
    found   the best rate less no dropout; None where no dropout is best
    """

    given: str
    p: str
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
    with suppress(NotRunError):
        each = [results.at(f"ensembles-{p}", readings) for p in RATES]
        development = [float(one.development.mean()) for one in each]
        for members in each[0].ensembles:
            tests = [one.ensembles[members] for one in each]
            given = f"ensembles of {members}" if members > 1 else "single models on the same texts"
            found.append(_gain(given, tests, development, results))
    return found


def _gain(
    given: str, tests: list[pd.DataFrame], development: list[float], results: Results
) -> Gain:
    best = development.index(min(development))
    losses = [float(one.sum(axis=1).mean() / results.sizes.sum()) for one in tests]
    apart = difference(tests[best] - tests[0], results) if best else None
    return Gain(given, list(RATES.values())[best], (losses[0], losses[best]), apart)
