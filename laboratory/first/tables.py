"""The tables of RESULTS.md, from what the runs have found."""

import math
from itertools import pairwise

import numpy as np
import pandas as pd

from dropgpt.comparison.interval import Difference
from laboratory.first import rates
from laboratory.first.plan import Plan
from laboratory.first.rates import Best
from laboratory.first.results import Found, Results
from laboratory.first.verdicts import NOT_YET_RUN, Claim, Finding, Verdict, measured

SHOWN = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # numbers of readings in the map's table


def told(found: Difference, digits: int = 3) -> str:
    low, high = (f"{x:+.{digits}f}" for x in (found.low, found.high))
    return f"{found.mean:+.{digits}f} ({low} to {high})"


def use_table(table: pd.DataFrame, bests: list[Best]) -> pd.DataFrame:
    """What to set, by how often the text is read."""
    at = {one.readings: one for one in bests}
    rows = []
    for low, high, p in rates.stretches(bests):
        inside = [at[n] for n in at if low <= n <= high]
        everywhere = set.intersection(*(set(one.as_good) for one in inside)) - {p}
        rows.append(
            {
                "the text is read": f"{low} to {high} times" if low < high else f"{low} times",
                "best p": f"**{p:g}**",
                "as good": ", ".join(f"{q:g}" for q in sorted(everywhere)) or "none",
                "held-out loss there": f"{min(one.loss for one in inside):.3f}",
            }
        )
    return pd.DataFrame(rows)


def map_table(cells: pd.DataFrame) -> pd.DataFrame:
    """The loss less that without dropout, a row a number of readings."""
    rows = []
    for readings in SHOWN:
        here = cells[cells.readings == readings].set_index("p")
        if len(here):
            row = {"readings": str(readings)}
            for p, cell in here.iterrows():
                mark = "" if cell.sure else " ?"
                row[f"p {p:g}"] = f"{cell['mean']:+.3f} ± {cell.high - cell['mean']:.3f}{mark}"
            rows.append(row)
    return pd.DataFrame(rows)


def overtakes_table(table: pd.DataFrame) -> pd.DataFrame:
    """From which reading on each rate is ahead of none, and of the one below it."""
    known = sorted(set(table.p))
    rows = []
    for below, p in pairwise(known):
        cells = []
        for other in (0.0, below):
            found = rates.overtakes(table, p, other)
            seeds = len(set(table.seed))
            cells.append(
                "not within the run"
                if found is None
                else f"{found[0].mean:.1f} ({found[0].low:.1f} to {found[0].high:.1f})"
                + ("" if found[1] == seeds else f", in {found[1]} of {seeds} seeds")
            )
        rows.append(
            {"p": f"{p:g}", "ahead of none from reading": cells[0]}
            | {"ahead of the rate below from reading": cells[1]}
        )
    return pd.DataFrame(rows)


def claims_table(verdicts: list[tuple[Claim, Verdict]]) -> pd.DataFrame:
    """A claim a row, with the one number that decides."""
    rows = []
    for claim, found in verdicts:
        row = {"claim": claim.text, "verdict": f"**{found.said}**"}
        number = seen = ""
        if found.deciding:
            finding, measure = found.deciding
            number = described(finding, measure)
            seen = f"{(measure.high - measure.low) / 2:.{digits(finding)}f}{unit(finding)}"
        rows.append(row | {"the number that decides": number, "would have been seen": seen})
    return pd.DataFrame(rows)


def details_table(verdicts: list[tuple[Claim, Verdict]], results: Results) -> pd.DataFrame:
    """A claim a row, with its source and all its findings."""
    return pd.DataFrame(
        {
            "claim": claim.text,
            "source": claim.source,
            "expected": claim.expected or "which is lowest",
            "found": "<br>".join(
                described(finding, measured(finding.terms, results)) for finding in claim.findings
            ),
        }
        for claim, _ in verdicts
    )


def described(finding: Finding, found: Difference | None) -> str:
    number = f"{told(found, digits(finding))}{unit(finding)}" if found else NOT_YET_RUN
    return f"{finding.label}: {number}"


def digits(finding: Finding) -> int:
    return 1 if finding.unit == "readings" else 3


def unit(finding: Finding) -> str:
    """What stands behind a number; nats go without saying."""
    return " readings" if finding.unit == "readings" else ""


def families_table(chosen: Plan, results: Results) -> pd.DataFrame:
    """Other sizes of the text and of the model: the best rate after as many readings in all.

    A family are variants that differ in the rate only, as half-p0, half-p10 and so on.
    """
    families: dict[str, list[str]] = {"as in the map": chosen.groups["map"].variants}
    others = [chosen.groups[name] for name in ("sizes", "widths") if name in chosen.groups]
    for variant in (variant for group in others for variant in group.variants):
        families.setdefault(variant.rpartition("-")[0], []).append(variant)
    known = {name: rates.rates(results, variants) for name, variants in families.items()}
    tables = {
        name: rates.curves(results, variants)
        for name, variants in known.items()
        if 0.0 in variants.values() and len(results.seeds(*variants)) > 1
    }
    shared = min((int(table.readings.max()) for table in tables.values()), default=0)
    rows = []
    for name, table in tables.items():
        here = table[table.readings == shared]
        best = next(one for one in rates.best(table) if one.readings == shared)
        found = results[next(iter(known[name])), int(here.seed.iloc[0])]
        params = found.made_by["params"]
        embedded = params["tokenize"]["vocabulary_size"] + params["model"]["n_ctx"]
        in_blocks = found.parameters - embedded * params["model"]["n_embd"]
        row = {
            "": name,
            "tokens": f"{params['train']['tokens'] - 1:,}",
            "width": str(params["model"]["n_embd"]),
            "parameters in the blocks a token": f"{in_blocks / params['train']['tokens']:.1f}",
            f"best p after {shared}": f"**{best.p:g}**",
            "as good": ", ".join(f"{p:g}" for p in best.as_good if p != best.p) or "none",
        }
        for p in (0.1, 0.2, 0.3):
            effect = rates.differences(table, p, 0.0).get(shared) if p in set(table.p) else None
            row[f"p {p:g} less p 0"] = told(effect) if effect else "not run"
        rows.append((in_blocks / params["train"]["tokens"], row))
    return pd.DataFrame([row for _, row in sorted(rows, key=lambda item: item[0])])


def by_size(families: pd.DataFrame) -> str:
    """Whether the rows of `families_table`, by parameters a token, are by their best rate, too."""
    if len(families) < 3:
        return ""
    (column,) = families.columns[families.columns.str.startswith("best p")]
    best = families[column].str.strip("*")
    said = f"From row to row the best rate is {', '.join(best)}: "
    if best.astype(float).is_monotonic_increasing:
        return said + "it never falls, so here parameters a token say which is higher."
    return said + "it falls in places, so parameters a token alone do not say which is higher."


def variants_table(chosen: Plan, results: Results) -> pd.DataFrame:
    """Mean and standard deviation over the seeds."""
    rows = []
    for variant in chosen.seeds:
        of = [results[variant, seed] for seed in results.seeds(variant)]
        if len(of) > 1:
            bests = [one.best() for one in of]
            rows.append(
                {
                    "variant": variant,
                    "changes": ", ".join(
                        f"`{key}={value}`" for key, value in chosen.variants[variant].items()
                    ),
                    "seeds": str(len(of)),
                    "best": spread([one.loss for one in bests]),
                    "at reading": spread([one.readings for one in bests], 1),
                    "last": spread([one.curve.loss.iloc[-1] for one in of]),
                    "training, last": spread([one.training[-1] for one in of]),
                    "all held-out tokens": spread([whole(one) for one in of]),
                    "bits per byte": spread(
                        [whole(one) / math.log(2) * tokens_a_byte(one) for one in of]
                    ),
                }
            )
    return pd.DataFrame(rows)


def whole(found: Found) -> float:
    """The loss in nats a token on all held-out tokens, by the weights after the last step."""
    return float(found.documents.nats.sum() / found.documents.tokens.sum())


def tokens_a_byte(found: Found) -> float:
    return float(found.documents.tokens.sum() / found.documents.bytes.sum())


def spread(values: list[float], digits: int = 3) -> str:
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"
