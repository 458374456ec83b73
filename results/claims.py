"""What is said of dropout, what should then be found, and whether it was.

The regions that decide were written down before the runs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dropgpt.comparison.statistics import Difference, mean_difference
from results.runs import RATE, RATES, SEEDS, SITES, Found, many, one

Results = Mapping[tuple[str, int], Found]  # by variant and seed
# A sum of measures: what each (variant, measure) is multiplied by.
Terms = dict[tuple[str, str], float]

NEGATIVE, POSITIVE = (-math.inf, 0.0), (0.0, math.inf)
BEST, LAST, BEST_STEP = "best_validation_loss", "validation_loss", "best_step"
OFF, ON, MONTE_CARLO, ATTENTION_ON = (
    "nats",
    "nats_dropout_on",
    "nats_monte_carlo",
    "nats_attention_on",
)


@dataclass(frozen=True)
class Finding:
    """A number, and the region in which it must lie if the claim holds."""

    label: str
    terms: Terms
    expected: tuple[float, float]

    @property
    def in_steps(self) -> bool:
        """Else it is in nats a token."""
        return any(measure == BEST_STEP for _, measure in self.terms)


@dataclass(frozen=True)
class Claim:
    text: str
    source: str
    expected: str
    findings: list[Finding]


def measured(terms: Terms, results: Results) -> Difference:
    """The sum that `terms` asks for, with its 95% interval.

    A measure of the documents has the chance of seeds and of documents in its interval; one of
    the training's validations that of the seeds only, since all measure the same windows.
    """
    by_seed = [
        sum(
            weight * _values(results[variant, seed], measure)
            for (variant, measure), weight in terms.items()
        )
        for seed in SEEDS
    ]
    of_documents = any(measure.startswith("nats") for _, measure in terms)
    documents = next(iter(results.values())).documents
    tokens = documents.tokens.to_numpy() if of_documents else np.ones(1, dtype=np.int64)
    return mean_difference(np.stack(by_seed), tokens)


def _values(found: Found, measure: str) -> npt.NDArray[np.float64]:
    if measure.startswith("nats"):
        return found.documents[measure].to_numpy()
    return np.array([found.outcome[measure]], dtype=np.float64)


def verdict(claim: Claim, results: Results) -> str:
    """agrees: every interval lies in its region; disagrees: one lies outside; else cannot tell.

    Where nothing is expected: which of the findings is lower than each other, if one is.
    """
    if not claim.expected:
        return lowest(claim.findings, results)
    intervals = [(measured(one.terms, results), one.expected) for one in claim.findings]
    if any(found.high < low or found.low > high for found, (low, high) in intervals):
        return "disagrees"
    if all(low <= found.low and found.high <= high for found, (low, high) in intervals):
        return "agrees"
    return "cannot tell"


def lowest(findings: list[Finding], results: Results) -> str:
    first = min(findings, key=lambda finding: measured(finding.terms, results).nats)
    others = (minus(first.terms, other.terms) for other in findings if other is not first)
    sure = all(measured(terms, results).high < 0 for terms in others)
    return first.label if sure else "cannot tell"


def against(ours: str, theirs: str, measure: str) -> Terms:
    return {(ours, measure): 1, (theirs, measure): -1}


def gap(variant: str, measure: str) -> Terms:
    """Of the same weights, to the loss with dropout off."""
    return {(variant, measure): 1, (variant, OFF): -1}


def minus(ours: Terms, theirs: Terms, times: float = 1) -> Terms:
    keys = dict.fromkeys([*ours, *theirs])
    return {key: ours.get(key, 0) - times * theirs.get(key, 0) for key in keys}


def growing(kind: str, measures: list[Terms]) -> list[Finding]:
    """The first is above 0, and each later one above the one before."""
    first = Finding(f"{kind} at p {RATES[0]}", measures[0], POSITIVE)
    pairs = zip(RATES, RATES[1:], measures, measures[1:], strict=False)
    return [first] + [
        Finding(f"{kind} at p {after} less that at {before}", minus(theirs, ours), POSITIVE)
        for before, after, ours, theirs in pairs
    ]


BOTH, DECAYED, DROPPED = f"weight decay, p {RATE}", "weight decay, p 0", many(RATE)
AT_BEST, AT_LAST = (against(many(RATE), many(0), measure) for measure in (BEST, LAST))

CLAIMS = [
    Claim(
        "Many epochs on little data: dropout lowers the best held-out loss, most at 0.2 or more",
        "Srivastava et al. 2014; Xue et al. 2023 (arXiv 2305.13230)",
        f"p {RATE} below p 0 and below p 0.1",
        [
            Finding(
                f"best, p {RATE} less p {rate}", against(many(RATE), many(rate), BEST), NEGATIVE
            )
            for rate in (0, 0.1)
        ],
    ),
    Claim(
        "The same at the last step, learning rate constant: a far larger effect than on the best",
        "follows from overfitting",
        "below 0, and more than twice the effect on the best",
        [
            Finding(f"last, p {RATE} less p 0", AT_LAST, NEGATIVE),
            Finding(
                "effect at the last less twice that on the best",
                minus(AT_LAST, AT_BEST, 2),
                NEGATIVE,
            ),
        ],
    ),
    Claim(
        "One epoch: p > 0 hurts, and more as p grows; against many epochs the sign changes",
        "Liu et al. 2025 (arXiv 2505.24788)",
        "the loss grows with p; the effect is above that with many epochs",
        [
            *growing("effect", [against(one(rate), one(0), OFF) for rate in RATES]),
            Finding(
                f"effect of p {RATE} less that with many epochs",
                minus(against(one(RATE), one(0), OFF), against(many(RATE), many(0), OFF)),
                POSITIVE,
            ),
        ],
    ),
    Claim(
        "The best step moves later as p rises",
        "slower overfitting",
        "above 0 steps",
        [
            Finding(
                f"p {after} less p {before}",
                against(many(after), many(before), BEST_STEP),
                POSITIVE,
            )
            for before, after in ((0, 0.2), (0.2, 0.4))
        ],
    ),
    Claim(
        "Dropout left on costs loss on the same tokens, and more as p grows",
        "Srivastava et al. 2014",
        "above 0 and growing",
        growing("cost", [gap(many(rate), ON) for rate in RATES]),
    ),
    Claim(
        "So does attention dropout alone, left on in evaluation: the classic mistake",
        "scaled_dot_product_attention drops in eval mode, too",
        "above 0 and growing",
        growing("cost", [gap(many(rate), ATTENTION_ON) for rate in RATES]),
    ),
    Claim(
        "Monte-Carlo dropout beats the deterministic pass by 0.01 to 0.03 nats",
        "Gal and Ghahramani 2016, Penn Treebank",
        "-0.03 to -0.01",
        [Finding(f"p {rate}", gap(many(rate), MONTE_CARLO), (-0.03, -0.01)) for rate in RATES],
    ),
    Claim(
        "Permuted epochs beat windows drawn with replacement by 0 to 0.03 nats",
        "arithmetic: with replacement an epoch's worth misses 37% of the text",
        "-0.03 to 0",
        [
            Finding(
                "best, permuted less replaced",
                against(many(RATE), "with replacement", BEST),
                (-0.03, 0.0),
            )
        ],
    ),
    Claim(
        "Weight decay and dropout both help on little data, by less together than their sum",
        "common practice",
        "each below 0; the joint effect less the sum above 0",
        [
            Finding("best, weight decay", against(DECAYED, many(0), BEST), NEGATIVE),
            Finding(f"best, p {RATE}", AT_BEST, NEGATIVE),
            Finding(
                "joint effect less the sum",
                minus(against(BOTH, DECAYED, BEST), AT_BEST),
                POSITIVE,
            ),
        ],
    ),
    Claim(
        "A rate that rises linearly is about equal to a constant one; dropout in the first half "
        "only is worse where the model overfits",
        "Liu et al. 2023 (arXiv 2303.01500), for vision",
        "-0.05 to 0.05; above 0",
        [
            Finding("linear up less constant", against("linear up", DROPPED, OFF), (-0.05, 0.05)),
            Finding("early only less constant", against("early only", DROPPED, OFF), POSITIVE),
        ],
    ),
    Claim(
        f"One site at a time at p {RATE}: which earns most? (Best, less that without dropout)",
        "no published answer",
        "",
        [
            Finding(
                site,
                against(f"only {site}", many(0), BEST),
                (-math.inf, math.inf),
            )
            for site in SITES
        ],
    ),
    Claim(
        "Loss on the last token only, 0.12 targets a training token: dropout does not help",
        "the reference recipe's loss",
        "above -0.01",
        [
            Finding(
                f"p {RATE} less p 0",
                against(f"last token, p {RATE}", "last token, p 0", OFF),
                (-0.01, math.inf),
            )
        ],
    ),
]
