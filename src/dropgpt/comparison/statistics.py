"""Whether runs differ by more than chance, in nats a held-out token.

A run's loss depends on its parameters and, by chance, on its seed and on which documents are held
out. Runs with the same seed read the same batches from the same initial weights, and all measure
the same documents. So differences are taken seed by seed and document by document, where most
of the chance cancels, and both kinds of chance that are left go into the interval.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from dropgpt.comparison.experiments import Run
from dropgpt.errors import UserError
from dropgpt.randomness import generator

RESAMPLES = 2000  # of the documents
CONFIDENCE = 0.95
SEED = "train.seed"
SAME = ("evaluate.stride", "evaluate.across_documents")  # or the numbers mean something else
WITHOUT_EFFECT = ("runtime.", "sample.", "evaluate.")  # on the loss

# A group's runs, by all else that has an effect on the loss, the seed above all: what it pairs by.
Groups = dict[str, dict[str, Run]]


@dataclass(frozen=True)
class Difference:
    """`nats` a token, negative where ours is better, with a 95% interval from `low` to `high`."""

    nats: float
    low: float
    high: float
    seeds: int

    @property
    def verdict(self) -> str:
        if self.seeds < 2:
            return "cannot tell: one seed"
        if self.high < 0:
            return "better"
        if self.low > 0:
            return "worse"
        return "cannot tell"


def check_comparable(runs: list[Run]) -> None:
    """Raise UserError where two runs did not measure the same tokens in the same way."""
    first = runs[0]
    for other in runs[1:]:
        for key in SAME:
            if first.params[key] != other.params[key]:
                raise UserError(
                    f"compare: {first.name} was evaluated with {key} {first.params[key]}, "
                    f"{other.name} with {other.params[key]}: no comparison"
                )
        if not first.documents.sha256.equals(other.documents.sha256):
            raise UserError(
                f"compare: {first.name} and {other.name} were evaluated on other held-out tokens, "
                f"{first.documents.tokens.sum():,} in {len(first.documents)} documents and "
                f"{other.documents.tokens.sum():,} in {len(other.documents)}: no comparison"
            )


def varied(runs: list[Run]) -> list[str]:
    """The parameters in which the runs differ, the seed and what cannot change a loss left out."""
    keys = dict.fromkeys(key for run in runs for key in run.params)
    return [
        key
        for key in keys
        if key != SEED
        and not key.startswith(WITHOUT_EFFECT)
        and len({repr(run.params.get(key)) for run in runs}) > 1
    ]


def groups(runs: list[Run], by: list[str]) -> Groups:
    """The runs by their values of `by`, numbers by size."""
    for key in by:
        if any(key not in run.params for run in runs):
            raise UserError(f"compare: --by {key}: there is no such parameter")
    found: Groups = {}
    for run in sorted(runs, key=lambda run: [_order(run.params[key]) for key in by]):
        label = ", ".join(str(run.params[key]) for key in by) or "all"
        rest = {
            key: value
            for key, value in run.params.items()
            if key not in by and not key.startswith(WITHOUT_EFFECT)
        }
        found.setdefault(label, {}).setdefault(repr(rest), run)
    return found


def table(grouped: Groups, baseline: str) -> pd.DataFrame:
    """One row a group: group, runs, loss, spread, perplexity, difference, low, high, verdict.

    loss is the mean over the runs, spread their standard deviation, perplexity exp of the loss;
    difference, low, high and verdict are those of `difference` to the group `baseline`.
    """
    rows = []
    for label, runs in grouped.items():
        losses = [run.documents.nats.sum() / run.documents.tokens.sum() for run in runs.values()]
        row = {
            "group": label,
            "runs": len(losses),
            "loss": float(np.mean(losses)),
            "spread": float(np.std(losses, ddof=1)) if len(losses) > 1 else math.nan,
            "perplexity": math.exp(np.mean(losses)),
            "difference": math.nan,
            "low": math.nan,
            "high": math.nan,
        }
        alike = [key for key in runs if key in grouped[baseline]]
        if label == baseline:
            row["verdict"] = "baseline"
        elif alike:
            found = difference([(runs[key], grouped[baseline][key]) for key in alike])
            row |= {"difference": found.nats, "low": found.low, "high": found.high}
            row["verdict"] = found.verdict
        else:
            row["verdict"] = "cannot tell: no run of the baseline is alike in all else"
        rows.append(row)
    return pd.DataFrame(rows)


def difference(pairs: list[tuple[Run, Run]]) -> Difference:
    """How ours differ from theirs, each pair alike but for what is compared."""
    nats = [(ours.documents.nats - theirs.documents.nats).to_numpy() for ours, theirs in pairs]
    return mean_difference(np.stack(nats), pairs[0][1].documents.tokens.to_numpy())


def mean_difference(nats: npt.NDArray[np.float64], tokens: npt.NDArray[np.int64]) -> Difference:
    """The mean a token of differences `nats`, (seeds, documents), in documents of `tokens` tokens.

    Its variance is that between seeds, plus that between documents, which scipy's paired
    bootstrap gives; the interval is Student's t with the degrees of freedom of Satterthwaite
    (1946). With one seed it is of the documents only, with one document of the seeds only.
    """
    seeds = len(nats)
    by_seed = nats.sum(1) / tokens.sum()
    parts = [(_documents_variance(nats.mean(0), tokens), len(tokens) - 1)]
    if seeds > 1:
        parts.append((by_seed.var(ddof=1) / seeds, seeds - 1))
    variance = sum(part for part, _ in parts)
    half = 0.0
    if variance:
        degrees = variance**2 / sum(part**2 / free for part, free in parts if free)
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees) * math.sqrt(variance))
    mean = float(by_seed.mean())
    return Difference(mean, mean - half, mean + half, seeds)


def by_document(ours: Run, theirs: Run) -> pd.DataFrame:
    """Each document's loss in nats a token in both runs and the difference, the best first."""
    documents = theirs.documents[["id", "tokens"]].copy()
    documents[theirs.name] = theirs.documents.nats / documents.tokens
    documents[ours.name] = ours.documents.nats / documents.tokens
    documents["difference"] = documents[ours.name] - documents[theirs.name]
    return documents.sort_values("difference", ignore_index=True)


def _documents_variance(nats: npt.NDArray[np.float64], tokens: npt.NDArray[np.int64]) -> float:
    """Of the mean difference a token, had other documents been held out."""
    if len(tokens) < 2 or not nats.any():
        return 0.0
    found = stats.bootstrap(
        (nats, tokens),
        lambda n, t, axis: n.sum(axis) / t.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=100,
        method="percentile",
        rng=generator(0, "evaluation"),
    )
    return float(found.standard_error**2)


def _order(value: Any) -> tuple[bool, float, str]:
    """Numbers by size, before all else."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return (not number, value if number else 0.0, str(value))
