"""RESULTS.md and its pictures, from what the runs have found: `python -m laboratory.first.judge`"""

import json
import math
from collections import Counter
from pathlib import Path

import pandas as pd

from dropgpt.comparison.interval import Difference
from dropgpt.comparison.report import markdown
from dropgpt.errors import UserError
from dropgpt.machine.files import sha256
from dropgpt.params import Params
from laboratory.first import plan, rates
from laboratory.first.claims import CLAIMS
from laboratory.first.pictures import EFFECTS, MAP, draw_effects, draw_map
from laboratory.first.plan import RUNS, SETTING, Plan
from laboratory.first.rates import Best, Rates, over_seeds
from laboratory.first.results import Results, read
from laboratory.first.tables import (
    by_size,
    claims_table,
    details_table,
    families_table,
    map_table,
    overtakes_table,
    told,
    use_table,
    variants_table,
)
from laboratory.first.verdicts import NOT_YET_RUN, Verdict, verdict
from stages import run

TEMPLATE = Path("laboratory/first/template.md")
REPORT = Path("RESULTS.md")
ORDER = ("agrees", "disagrees", "cannot tell", NOT_YET_RUN)  # besides, what is best of some
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
            f"read the text once at least; in {RUNS} there are {there}"
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
    families = families_table(chosen, results)
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
        families=markdown(families),
        by_size=f" {by_size(families)}".rstrip(),
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


def rank(found: Verdict) -> int:
    """Of what can be said; the lowest of some findings stands beside what agrees."""
    return ORDER.index(found.said) if found.said in ORDER else 0


if __name__ == "__main__":
    run(judge)
