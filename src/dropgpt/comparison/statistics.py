"""Whether runs differ by more than chance, in bits a byte of held-out text.

A run's loss depends on its parameters and, by chance, on its seed and on which documents are held
out. Runs with the same seed read the same batches from the same initial weights, and all measure
the same documents. So differences are taken seed by seed and document by document, where most
of the chance cancels, and both kinds of chance that are left go into the interval.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dropgpt.comparison.experiments import Run
from dropgpt.comparison.interval import CONFIDENCE, Difference, bonferroni, mean_difference
from dropgpt.errors import UserError
from dropgpt.tokens import articles

SEED = "train.seed"
MADE_WITH = ("code.", "environment")  # what is no parameter
# Names a single model, so that no two seeds would be alike in it; nanoGPT keeps its best iteration.
WHICH = ("model", "weights", "revision", "iter_num")
SHOWN = 5  # documents at either end

# What changes no bit of a trained model, nor of what a measurement finds for each document, beyond
# rounding in the case of the batch. Whatever else is set, a result may be another one.
WITHOUT_EFFECT = frozenset(
    {
        "train.validation_interval",
        "train.validation_windows",
        "evaluate.seed",
        "evaluate.batch_size",
        "evaluate.dropout_passes",
        "evaluate.extra_corpora",
    }
)

# A group's runs, by all else that has an effect on the loss, the seed above all: what it pairs by.
Groups = dict[str, dict[str, Run]]


def distinct(runs: list[Run]) -> tuple[list[Run], list[str]]:
    """Each result once; a line for each run that has an equal one before it.

    Equal are results of the same parameters and tokens with the same losses; a change of the
    code or of the machine that left them so is none.
    """
    found: dict[str, Run] = {}
    lines = []
    for run in runs:
        made_by = {k: v for k, v in _effective(run).items() if not k.startswith(MADE_WITH)}
        key = f"{_text(made_by)} {run.documents.nats.tolist()}"
        if key in found:
            lines.append(f"{run.name} is the same result as {found[key].name}: it counts once")
        else:
            found[key] = run
    return list(found.values()), lines


def of_one_document(runs: list[Run]) -> list[str]:
    """A line where all text is of one document."""
    sizes = articles.sums(runs[0].documents.bytes.to_numpy(), _source(runs))
    if (sizes > 0).sum() > 1:
        return []
    return ["all of the text is one document: the intervals know of the chance of seeds alone"]


def varied(runs: list[Run]) -> list[str]:
    """In what the runs differ, the seed and what cannot change a loss left out."""
    keys = dict.fromkeys(key for run in runs for key in _effective(run))
    return [key for key in keys if key != SEED and len({_value(run, key) for run in runs}) > 1]


def groups(runs: list[Run], by: list[str]) -> Groups:
    """The runs by their values of `by`, numbers by size, and by their code where that differs.

    Raises UserError where there is no such parameter, and where runs that are alike in all that
    is known of them have found different losses.
    """
    for key in by:
        if not any(key in run.made_by for run in runs):
            raise UserError(f"--by {key}: no result was made by such a parameter")
    by = [*by, *(key for key in varied(runs) if key.startswith("code.") and key not in by)]
    beside = aside(by)
    found: dict[tuple[str, ...], dict[str, Run]] = {}
    for run in sorted(runs, key=lambda run: [_order(run.made_by.get(key)) for key in by]):
        known = _effective(run) | ({"texts": run.texts} if "tokens" in beside else {})
        rest = _text({k: v for k, v in known.items() if k not in beside})
        group = found.setdefault(tuple(_value(run, key) for key in by), {})
        if rest in group:
            way_out = "name the runs to compare, without --by"
            if SEED not in run.made_by:
                way_out = f"give each its {SEED} in made_by"
            raise UserError(
                f"{group[rest].name} and {run.name} are alike in parameters, code and "
                f"environment, yet their losses differ: {way_out}"
            )
        group[rest] = run
    return dict(zip(_labels(found, by), found.values(), strict=True))


def aside(by: list[str]) -> tuple[str, ...]:
    """In what two runs may differ that groups by the parameters `by` pair.

    What the tokens are follows from the texts and from how they were tokenized.
    """
    tokens = ["tokens"] if any(key.startswith("tokenize.") for key in by) else []
    return (*by, *WHICH, *tokens)


def _labels(found: dict[tuple[str, ...], dict[str, Run]], by: list[str]) -> list[str]:
    """A name for each group: its values of `by`, in full where some would otherwise read alike."""
    each = [next(iter(group.values())).made_by for group in found.values()]
    short = [", ".join(str(made_by.get(key)) for key in by) or "all" for made_by in each]
    if len({*short}) == len(short):
        return short
    return [", ".join(map("=".join, zip(by, values, strict=True))) for values in found]


def _value(run: Run, key: str) -> str:
    """As text in which no two values are alike: True is not "True", and null is not absent."""
    return repr(run.made_by[key]) if key in run.made_by else "absent"


def _text(made_by: dict[str, Any]) -> str:
    """The same in whatever order the keys stand."""
    return repr(sorted(made_by.items()))


def _effective(run: Run) -> dict[str, Any]:
    """What made a run, without what cannot change its loss."""
    return {key: value for key, value in run.made_by.items() if key not in WITHOUT_EFFECT}


def differences(grouped: Groups, baseline: str, tries: int = 0) -> dict[str, Difference | None]:
    """How each other group differs from `baseline`; None where no pair is alike in all else.

    Where there are several, or `tries` changes were looked at before, the intervals hold together.
    """
    others = {label: runs for label, runs in grouped.items() if label != baseline}
    confidence = bonferroni(len(others) + tries)
    found: dict[str, Difference | None] = {}
    for label, runs in others.items():
        alike = paired(runs, grouped[baseline])
        found[label] = difference(alike, confidence) if alike else None
    return found


def unpaired(ours: dict[str, Run], theirs: dict[str, Run]) -> list[tuple[Run, dict[str, Run]]]:
    """The runs that have no counterpart in the other group, each with that group."""
    return [
        (run, other)
        for group, other in ((ours, theirs), (theirs, ours))
        for key, run in group.items()
        if key not in other
    ]


def paired(ours: dict[str, Run], theirs: dict[str, Run]) -> list[tuple[Run, Run]]:
    """The runs of two groups that are alike but for what is compared, seed by seed."""
    return [(ours[key], theirs[key]) for key in ours if key in theirs]


def table(
    grouped: Groups,
    baseline: str,
    found: dict[str, Difference | None] | None = None,
    margin: float | None = None,
) -> pd.DataFrame:
    """One row a group: group, runs, seeds, bits_per_byte, spread, perplexity, difference, low,
    high, verdict, more_seeds, more_seeds_for_margin.

    bits_per_byte is the mean over the runs, spread their standard deviation, perplexity exp of
    their mean loss a token; difference, low, high and verdict are those of `found`, or else of
    `differences`. So many more seeds would show the difference that was found, or one of `margin`
    bits per byte; neither is known of one seed.
    """
    found = differences(grouped, baseline) if found is None else found
    rows = []
    for label, runs in grouped.items():
        bits = [bits_per_byte(run) for run in runs.values()]
        losses = [run.documents.nats.sum() / run.documents.tokens.sum() for run in runs.values()]
        row: dict[str, Any] = {
            "group": label,
            "runs": len(bits),
            "seeds": len({run.made_by.get(SEED) for run in runs.values()}),
            "bits_per_byte": float(np.mean(bits)),
            "spread": float(np.std(bits, ddof=1)) if len(bits) > 1 else math.nan,
            "perplexity": _perplexity(float(np.mean(losses))),
        }
        if one := found.get(label):
            row |= {"difference": one.mean, "low": one.low, "high": one.high}
            row["verdict"] = one.verdict
            row["more_seeds"] = one.more_seeds(one.mean)
            row["more_seeds_for_margin"] = one.more_seeds(margin or 0.0)
        elif label == baseline:
            row["verdict"] = "baseline"
        else:
            row["verdict"] = "cannot tell: no run of the baseline is alike in all else"
        rows.append(row)
    numbers = ["difference", "low", "high"]
    counts = ["more_seeds", "more_seeds_for_margin"]
    known = ["group", "runs", "seeds", "bits_per_byte", "spread", "perplexity"]
    whole = pd.DataFrame(rows, columns=[*known, *numbers, "verdict", *counts])
    return whole.astype(dict.fromkeys(numbers, float) | dict.fromkeys(counts, "Int64"))


def difference(pairs: list[tuple[Run, Run]], confidence: float = CONFIDENCE) -> Difference:
    """How ours differ from theirs, each pair alike but for what is compared.

    Pairs of one seed are no independent draws: their mean counts as one. Nor are the documents of
    one article. Of one seed and one document that has text, `low` and `high` are not a number.
    """
    ours, theirs = _by_seed(pairs)
    source = _source([run for pair in pairs for run in pair])
    sums = articles.sums(ours - theirs, source)
    sizes = articles.sums(pairs[0][1].documents.bytes.to_numpy(), source)
    found = mean_difference(sums, sizes, confidence)
    return found if sums[:, sizes > 0].size > 1 else replace(found, low=math.nan, high=math.nan)


def _source(runs: list[Run]) -> pd.Series:
    """Of which article each document is, as the run that knows most of articles has it.

    A result file may say nothing of them. What has no text parts none.
    """
    source = min(
        (run.documents.source for run in runs),
        key=lambda s: articles.begins(articles.whole(s)).sum(),
    )
    return source.where(runs[0].documents.bytes > 0).ffill().bfill()


def by_document(pairs: list[tuple[Run, Run]]) -> pd.DataFrame:
    """One row a document that has text, the best first: id, bytes, bits_per_byte, baseline,
    difference.

    bits_per_byte is ours and baseline theirs, each the mean over the seeds.
    """
    known = pairs[0][1].documents
    size = known.bytes
    ours, theirs = (bits.mean(0) for bits in _by_seed(pairs))
    documents = pd.DataFrame(
        {"id": known.id, "bytes": size, "bits_per_byte": ours / size, "baseline": theirs / size}
    )[size > 0]
    documents["difference"] = documents.bits_per_byte - documents.baseline
    return documents.sort_values("difference", ignore_index=True)


def ends(documents: pd.DataFrame) -> pd.DataFrame:
    """The `SHOWN` first and last rows of what `by_document` gives; all where there are no more."""
    few = len(documents) <= 2 * SHOWN
    return documents if few else pd.concat([documents.head(SHOWN), documents.tail(SHOWN)])


def bits_per_byte(run: Run) -> float:
    """Of all its documents together."""
    return float(_bits(run).sum() / run.documents.bytes.sum())


def _by_seed(pairs: list[tuple[Run, Run]]) -> tuple[npt.NDArray[np.float64], ...]:
    """The bits of ours and of theirs, (seeds, documents) each; runs of one seed are one."""
    found: dict[Any, list[npt.NDArray[np.float64]]] = {}
    for pair in pairs:
        bits = np.stack([_bits(run) for run in pair])
        found.setdefault(pair[0].made_by.get(SEED), []).append(bits)
    ours, theirs = np.stack([np.mean(bits, axis=0) for bits in found.values()], axis=1)
    return ours, theirs


def _bits(run: Run) -> npt.NDArray[np.float64]:
    """What each document of a run takes; no series, whose sum leaves out what is not a number."""
    return run.documents.nats.to_numpy() / math.log(2)


def _perplexity(loss: float) -> float:
    """Infinite where it is beyond floating point."""
    with np.errstate(over="ignore"):
        return float(np.exp(loss))


def _order(value: Any) -> tuple[bool, float, str]:
    """Numbers by size, before all else."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return (not number, value if number else 0.0, str(value))
