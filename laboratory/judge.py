"""RESULTS.md and its pictures, from what the runs have found: `python -m laboratory.judge`"""

import json
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from dropgpt.comparison.report import markdown
from dropgpt.comparison.statistics import Difference
from dropgpt.errors import UserError
from dropgpt.machine.files import sha256
from dropgpt.params import Params
from laboratory import plan, rates
from laboratory.claims import CLAIMS
from laboratory.pictures import EFFECTS, MAP, draw_effects, draw_map
from laboratory.plan import SETTING, Plan
from laboratory.rates import Best, Rates, over_seeds
from laboratory.results import Found, Results, read
from laboratory.verdicts import NOT_YET_RUN, Claim, Finding, Verdict, measured, verdict
from stages import run

TEMPLATE = Path("laboratory/template.md")
REPORT = Path("RESULTS.md")
ORDER = ("agrees", "disagrees", "cannot tell", NOT_YET_RUN)  # besides, what is best of some
SHOWN = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # numbers of readings in the tables
BY_CHANCE = 0.025  # of a finding without effect, to lie wholly on one side of 0


def judge(params: Params) -> None:
    chosen = plan.load()
    results = read(chosen)
    known = rates.rates(results, chosen.groups["map"].variants)
    seeds = results.seeds(*known)
    table = rates.curves(results, known) if known else pd.DataFrame()
    if 0.0 not in known.values() or len(known) < 2 or len(seeds) < 2 or table.empty:
        there = f"{', '.join(known) or 'none'}, with {len(seeds)} seeds in common"
        raise UserError(
            "laboratory: the map takes runs of p 0 and another rate, with two seeds at least, that "
            f"read the text once at least; in laboratory/runs there are {there}"
        )
    draw_map(table)
    draw_effects(table, rates.cells(table))
    REPORT.write_text(report(chosen, results, known, table, params), encoding="utf-8")
    print(f"judge: {REPORT}, {MAP} and {EFFECTS} from {len(results)} runs")


def report(
    chosen: Plan, results: Results, known: Rates, table: pd.DataFrame, params: Params
) -> str:
    bests = rates.best(table)
    cells = rates.cells(table)
    first = next(iter(results.values()))
    seeds = results.seeds(*known)
    verdicts = [(claim, verdict(claim, results)) for claim in CLAIMS]
    verdicts.sort(key=lambda pair: rank(pair[1]))
    counts = Counter(found.said for _, found in verdicts)
    judged = [claim for claim, found in verdicts if claim.expected and found.deciding]
    base = first.made_by["params"]
    documents = first.documents
    return TEMPLATE.read_text(encoding="utf-8").format(
        answer=answer(table, bests),
        use=markdown(use_table(table, bests)),
        map=markdown(map_table(cells)),
        overtakes=markdown(overtakes_table(table)),
        sure=f"{cells.sure.mean():.0%}",
        cells=len(cells),
        claims=markdown(claims_table(verdicts)),
        details=markdown(details_table(verdicts, results)),
        agree=counts["agrees"],
        disagree=counts["disagrees"],
        cannot_tell=counts["cannot tell"],
        by_chance=f"{BY_CHANCE * len(judged):.1f}",
        judged=len(judged),
        families=markdown(families_table(chosen, results)),
        variants=markdown(variants_table(chosen, results)),
        made=len(results),
        planned=sum(map(len, chosen.seeds.values())),
        taken_over=taken_over(results),
        parameters=f"{first.parameters:,}",
        base=base,
        tokens=f"{base['train']['tokens'] - 1:,}",
        readings=round(first.curve.readings.max()),
        seeds=", ".join(map(str, seeds)),
        source=params.data.source,
        which=f"the documents whose id matches `{chosen.documents}`"
        if chosen.documents
        else "all documents",
        held_out=f"{documents.tokens.sum():,}",
        documents=len(documents),
        bits=f"{1 / math.log(2) * documents.tokens.sum() / documents.bytes.sum():.3f}",
        environment=environments(results),
    )


def answer(table: pd.DataFrame, bests: list[Best]) -> str:
    """The result in three sentences."""
    last = bests[-1].readings
    at = {one.readings: one for one in bests}
    middle = min(at, key=lambda n: abs(n - last / 4))
    lowest = table.groupby(["p", "seed"]).loss.min().unstack()
    means = lowest.mean(axis=1)
    p = float(means.idxmin())
    gain = over_seeds((lowest.loc[p] - lowest.loc[0.0]).to_numpy())
    ends = rates.differences(table, at[last].p, 0.0)[last]
    often = [f"read {n} times, **{at[n].p:g}**" for n in sorted({middle, last}) if n > 1]
    return (
        f"Read once, the best rate of dropout is **{at[1].p:g}**; {'; '.join(often)}. "
        f"Stopped at its best moment, a training with p = {p:g} ends {apart(gain)} one without. "
        f"After {last} readings a training with p = {at[last].p:g} is {apart(ends)} one without."
    )


def apart(found: Difference) -> str:
    """A difference in words."""
    if found.low <= 0 <= found.high:
        return f"{told(found)} nats a token, so not surely apart, from"
    low, high = sorted(map(abs, (found.low, found.high)))
    side = "below" if found.mean < 0 else "above"
    return f"{abs(found.mean):.3f} nats a token ({low:.3f} to {high:.3f}) {side}"


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


def rank(found: Verdict) -> int:
    """Of what can be said; the lowest of some findings stands beside what agrees."""
    return ORDER.index(found.said) if found.said in ORDER else 0


def claims_table(verdicts: list[tuple[Claim, Verdict]]) -> pd.DataFrame:
    """A claim a row, with the one number that decides."""
    rows = []
    for claim, found in verdicts:
        row = {"claim": claim.text, "verdict": f"**{found.said}**"}
        number = seen = ""
        if found.deciding:
            finding, measure = found.deciding
            number = f"{finding.label}: {told(measure, digits(finding))}"
            seen = f"{(measure.high - measure.low) / 2:.{digits(finding)}f}"
            if finding.unit == "readings":
                number, seen = (f"{text} readings" for text in (number, seen))
        rows.append(row | {"the number that decides": number, "would have been seen": seen})
    return pd.DataFrame(rows)


def details_table(verdicts: list[tuple[Claim, Verdict]], results: Results) -> pd.DataFrame:
    """A claim a row, with its source and all its findings."""
    return pd.DataFrame(
        {
            "claim": claim.text,
            "source": claim.source,
            "expected": claim.expected or "which is lowest",
            "found": "<br>".join(described(finding, results) for finding in claim.findings),
        }
        for claim, _ in verdicts
    )


def described(finding: Finding, results: Results) -> str:
    found = measured(finding.terms, results)
    number = told(found, digits(finding)) if found else NOT_YET_RUN
    unit = " readings" if found and finding.unit == "readings" else ""
    return f"{finding.label}: {number}{unit}"


def digits(finding: Finding) -> int:
    return 1 if finding.unit == "readings" else 3


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


def taken_over(results: Results) -> str:
    """Which runs were made by other code than is there now."""
    now = sha256(SETTING)
    older = [key for key, found in results.items() if found.made_by["setting"] != now]
    if not older:
        return "All of them were made by the code and with the parameters that stand here."
    return (
        f"{len(older)} of them were made by earlier code and taken over, after "
        "`make results-check` had made some of the runs again with the same bytes."
    )


def environments(results: Results) -> str:
    """On what the runs were made, and how many on each."""
    counts = Counter(
        json.dumps(found.made_by["environment"], sort_keys=True) for found in results.values()
    )
    lines = []
    for said, count in counts.most_common():
        e = json.loads(said)
        packages = ", ".join(f"{name} {version}" for name, version in e["packages"].items())
        lines.append(
            f"- {count} runs: {e['device']}, {e['threads']} thread a run, {e['precision']}, "
            f"{e['system']}, Python {e['python']}, {packages}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    run(judge)
