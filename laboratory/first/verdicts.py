"""What the runs say of a claim: numbers with intervals, and whether they lie where it says."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dropgpt.comparison.interval import Difference, mean_difference
from laboratory.first.results import Found, Results

# A sum of measures: what each (variant, measure) is multiplied by. Measures are
#   after N     the held-out loss after N readings
#   best in N   the lowest one within N readings
#   best at N   after how many readings it was the lowest
#   nats …      of all held-out tokens by the weights after the last step, as in `Found.documents`
#   ensemble    the same, if the probabilities of all seeds' models are averaged
Terms = dict[tuple[str, str], float]
ENSEMBLE = "ensemble"
OFF, ON, MONTE_CARLO, ATTENTION_ON = (
    "nats",
    "nats_dropout_on",
    "nats_monte_carlo",
    "nats_attention_on",
)

NEGATIVE, POSITIVE = (-math.inf, 0.0), (0.0, math.inf)
NOT_YET_RUN = "not yet run"


@dataclass(frozen=True)
class Finding:
    """A number, and the region in which it must lie if the claim holds."""

    label: str
    terms: Terms
    expected: tuple[float, float]

    @property
    def unit(self) -> str:
        in_readings = any(measure.startswith("best at") for _, measure in self.terms)
        return "readings" if in_readings else "nats"


@dataclass(frozen=True)
class Claim:
    """`expected` is the findings' regions in words; empty where the lowest of them is asked for."""

    text: str
    source: str
    expected: str
    findings: list[Finding]


@dataclass(frozen=True)
class Verdict:
    """What became of a claim.

    said      agrees: every interval lies in its region; disagrees: one lies outside; cannot tell;
              not yet run; or the label of the lowest finding, where that is asked for
    deciding  the finding that decides, and what was measured: of all the one that lies least, or
              not, in its region, by the half-width of its interval; None if not yet run
    """

    said: str
    deciding: tuple[Finding, Difference] | None = None


def verdict(claim: Claim, results: Results) -> Verdict:
    known = _measured(claim.findings, results)
    if known is None:
        return Verdict(NOT_YET_RUN)
    agrees = "agrees"
    if not claim.expected:
        first, *others = (one for one, _ in sorted(known, key=lambda pair: pair[1].mean))
        agrees = first.label
        known = _measured(
            [
                Finding(f"{first.label} less {one.label}", minus(first.terms, one.terms), NEGATIVE)
                for one in others
            ],
            results,
        )
        assert known
    deciding = min(known, key=lambda pair: _margin(*pair))
    margin = _margin(*deciding)
    # Two half-widths beyond its region, an interval lies wholly outside.
    said = agrees if margin >= 0 else "disagrees" if margin < -2 else "cannot tell"
    return Verdict(said, deciding)


def _measured(findings: list[Finding], results: Results) -> list[tuple[Finding, Difference]] | None:
    """None where runs are missing for any of them."""
    known = [(one, found) for one in findings if (found := measured(one.terms, results))]
    return known if len(known) == len(findings) else None


def _margin(finding: Finding, found: Difference) -> float:
    """How far inside its region the interval ends, in half-widths of it."""
    low, high = finding.expected
    half = max((found.high - found.low) / 2, 1e-12)
    return min(found.low - low, high - found.high) / half


def measured(terms: Terms, results: Results) -> Difference | None:
    """The sum that `terms` asks for, with its 95% interval; None where runs are missing.

    A measure of the documents has the chance of seeds and of documents in its interval; one of
    the training's validations that of the seeds only, since all measure the same windows.
    """
    seeds = results.seeds(*(variant for variant, _ in terms))
    if len(seeds) < 2:
        return None
    by_seed = [
        sum(
            weight * _values(results, variant, seed, measure)
            for (variant, measure), weight in terms.items()
        )
        for seed in seeds
    ]
    if np.isnan(np.stack(by_seed)).any():  # a shorter training, or not measured
        return None
    of_documents = any(measure.startswith(("nats", ENSEMBLE)) for _, measure in terms)
    documents = next(iter(results.values())).documents
    tokens = documents.tokens.to_numpy() if of_documents else np.ones(1, dtype=np.int64)
    return mean_difference(np.stack(by_seed), tokens)


def _values(results: Results, variant: str, seed: int, measure: str) -> npt.NDArray[np.float64]:
    found = results[variant, seed]
    if measure == ENSEMBLE:
        return results.ensemble(variant)
    if measure.startswith("nats"):
        if measure not in found.documents:  # the plan did not ask for it
            return np.full(len(found.documents), np.nan)
        return found.documents[measure].to_numpy()
    kind, _, readings = measure.rpartition(" ")
    number: dict[str, Callable[[Found, int], float]] = {
        "after": Found.after,
        "best in": lambda one, n: one.best(n).loss,
        "best at": lambda one, n: one.best(n).readings,
    }
    return np.array([number[kind](found, int(readings))])


def minus(ours: Terms, theirs: Terms, times: float = 1) -> Terms:
    """The first sum less so many times the second."""
    keys = dict.fromkeys([*ours, *theirs])
    sums = {key: ours.get(key, 0) - times * theirs.get(key, 0) for key in keys}
    return {key: weight for key, weight in sums.items() if weight}


def against(ours: str, theirs: str, measure: str) -> Terms:
    return {(ours, measure): 1, (theirs, measure): -1}


def gap(variant: str, measure: str) -> Terms:
    """Of the same weights, to the loss with dropout off."""
    return {(variant, measure): 1, (variant, OFF): -1}


def growing(kind: str, rates: tuple[str, ...], terms: Callable[[str], Terms]) -> list[Finding]:
    """The first is above 0, and each later one above the one before."""
    first = Finding(f"{kind} at {named(rates[0])}", terms(rates[0]), POSITIVE)
    return [first] + [
        Finding(
            f"{kind} at {named(after)} less that at {named(before)}",
            minus(terms(after), terms(before)),
            POSITIVE,
        )
        for before, after in pairwise(rates)
    ]


def named(rate: str) -> str:
    """p20 -> p 0.2"""
    return f"p {int(rate.removeprefix('p')) / 100:g}"


def lower(label: str, ours: str, theirs: str, measure: str) -> Finding:
    return Finding(label, against(ours, theirs, measure), NEGATIVE)


def higher(label: str, ours: str, theirs: str, measure: str) -> Finding:
    return Finding(label, against(ours, theirs, measure), POSITIVE)
