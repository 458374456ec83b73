"""The page and its picture, from what the runs have found: `python -m laboratory.page SIZE`"""

import json
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from dropgpt.comparison.tables import markdown
from dropgpt.errors import UserError, counted
from dropgpt.params import Params
from laboratory import by_length, tables
from laboratory.by_length import DRAWN_AGAIN, Best, Row
from laboratory.claims import CLAIMS, MARGIN, TOGETHER
from laboratory.explored import explored, left_on
from laboratory.judge import NOT_YET_RUN, judge
from laboratory.mistakes import checked
from laboratory.pictures import draw_map, draw_worth
from laboratory.plan import TUNING, Plan, Size, arguments, setting
from laboratory.rates import between, changes, tried
from laboratory.results import AGAIN, Results, files, load, read
from laboratory.sentences import (
    answer,
    beside_the_rest,
    listed,
    notes,
    of_ensembles,
    waiting,
    with_masks,
)
from laboratory.worth import best_ensemble, conditions, gains, lowest
from stages import run

GROUP = "map"
WORTH_AT = (8, 12, 16, 32)  # readings
TEMPLATE = Path("laboratory/template.md")
PAGE = Path("RESULTS.md")
NOT_YET = "Not complete yet."
HISTORY = (
    "which was written before the first run. Claims 3, 4, 8 to 11, 15, 16, 18 and 19 were changed "
    "later. So were, when two seeds of the map had been run there, the learning rates behind the "
    "claims at 16 and 64 readings (2, 5, 6, 7, 12 to 17), and the number of seeds of 12 to 17. The "
    "design's end says how, and what had been run by then."
)
MAP, WORTH = Path("docs/map.svg"), Path("docs/worth.svg")
WORTH_PICTURE = (
    "![The gain of the best rate over no dropout, given what the table below has, by how often the "
    f"text is read]({WORTH})"
)


def write(params: Params, size: Size) -> None:
    plan = checked(size)
    named = settings(plan)
    so_far = read(size, plan, in_parts=GROUP)
    rows = by_length.rows(so_far, [*named]) if {*named} <= {*so_far.settings} else []
    if not rows:
        planned = files(size, plan, GROUP)
        absent = [file for file in planned if not file.exists()]
        raise UserError(
            f"laboratory: {len(absent)} of {len(planned)} runs of the group {GROUP} not made yet, "
            f"as {absent[0]}: `{size.command}` makes them"
        )
    if missing := missing_lengths(plan, rows):  # nothing is judged before its whole group is there
        others = {one: so_far.settings[one] for one in so_far.settings if one not in named}
        results, bests = Results(others, so_far.sizes), []
    else:
        results, bests = so_far, by_length.bests(so_far, [*named])
    given = conditions(plan)
    each = {readings: gains(so_far, readings, given) for readings in WORTH_AT}
    worth = {readings: found for readings, found in each.items() if len(found) > 1}
    draw_map(MAP, so_far, rows, named)
    draw_worth(WORTH, worth)
    apart = lowest(so_far, worth, given)
    besides, on = explored(so_far, plan), left_on(so_far)
    said = {
        "answer": "".join(
            [
                answer(rows, bests, named),
                waiting(missing),
                beside_the_rest(apart),
                of_ensembles(best_ensemble(so_far, TOGETHER)),
                with_masks(on, named),
            ]
        ),
        "use": markdown(tables.use(rows, named)),
        "bests": markdown(tables.bests(bests, named)) if bests else NOT_YET,
        "map": markdown(tables.beside_none(rows, named)),
        "worth": f"{WORTH_PICTURE}\n\n{markdown(tables.worth(worth))}" if worth else NOT_YET,
        "explored": markdown(tables.explored(besides)) if besides else NOT_YET,
        "left_on": markdown(tables.left_on(on)) if on else NOT_YET,
        "test": len(so_far.sizes),
        "tried": listed([*named.values()]),
        "drawn": f"{DRAWN_AGAIN:,}",
        **of_claims(results, bests),
        "between": between_rates(size, plan, rows, named),
        **of_runs(params, size, plan),
        **of_texts(params),
    }
    PAGE.write_text(TEMPLATE.read_text(encoding="utf-8").format(**said), encoding="utf-8")
    print(f"laboratory: {PAGE}, {MAP} and {WORTH}")


def missing_lengths(plan: Plan, rows: list[Row]) -> list[int]:
    """Those of the map that not all of its runs have."""
    group = plan.groups[GROUP]
    planned = {n for variant in group.variants for n in plan.params(variant, 1).readings}
    return sorted(planned - {row.readings for row in rows})


def settings(plan: Plan) -> dict[str, str]:
    """Those of the map, in the order of their rates, and what these are.

    Raises UserError where there is no map, or no p 0 in it, or one p twice.
    """
    if GROUP not in plan.groups:
        raise UserError(f"laboratory: the plan has no group {GROUP}, of which the page tells first")
    group = plan.groups[GROUP]
    p = {
        setting(variant): plan.params(variant, group.seeds[0]).model.dropout
        for variant in group.variants
    }
    named = {one: f"{p[one]:g}" for one in sorted(p, key=lambda one: p[one])}
    if next(iter(named.values())) != "0" or len({*named.values()}) < len(named):
        raise UserError(
            f"laboratory: the plan's group {GROUP} has the rates {', '.join(named.values())}: it "
            "needs p 0, and each only once; other settings go into a group of their own"
        )
    return named


def of_claims(results: Results, bests: list[Best]) -> dict[str, Any]:
    """What the template says of the claims."""
    verdicts = judge(CLAIMS, results)
    said = Counter(one.said for one in verdicts)
    judged = len(CLAIMS) - said.pop(NOT_YET_RUN, 0)
    counts = ", ".join(f'"{what}" {counted(count, "time")}' for what, count in said.most_common())
    return {
        "verdicts": markdown(tables.verdicts(verdicts)),
        "claims": len(CLAIMS),
        "judged": judged,
        "counts": f": {counts}" if counts else "",
        "margin": MARGIN,
        "notes": notes(verdicts, results, bests),
    }


def of_texts(params: Params) -> dict[str, str]:
    """What the template says of the texts, and of claims that were written down for ours."""
    ours = params.data.source == "wikipedia"
    return {
        "kind": ", in English, of one kind" if ours else f" of `data.source={params.data.source}`",
        "history": HISTORY if ours else "which was written for other texts.",
    }


def between_rates(size: Size, plan: Plan, rows: list[Row], named: dict[str, str]) -> str:
    """How much lower losses of the first table might be at a learning rate between two tried."""
    none = next(iter(named))
    compared = {(one, row.readings) for row in rows for one in (none, row.best)}
    settings = {changes(plan, variant): setting(variant) for variant in plan.groups[GROUP].variants}
    found = [
        (one.lower, named[settings[one.changes]], one.readings)
        for one in between(tried(size, plan)).itertuples()
        if (settings.get(one.changes), one.readings) in compared
    ]
    if not found:
        return ""
    lower, p, readings = max(found)
    return (
        ": by a parabola through the best rate and its neighbours, one between them would lower a "
        f"loss in the first table by {median(one[0] for one in found):.3f} (the median), and by "
        f"{lower:.3f} at most (p {p} with {readings} readings)"
    )


def of_runs(params: Params, size: Size, plan: Plan) -> dict[str, Any]:
    """What the template says of how it was made."""
    planned = [file for name in plan.groups for file in files(size, plan, name)]
    runs = [load(file) for file in planned if file.exists()]
    first = next(load(file) for file in files(size, plan, GROUP) if file.exists())
    tokens = first["made_by"]["params"]["train"]["tokens"]
    tuning = (group for name, group in plan.groups.items() if name.startswith(TUNING))
    seeds_of_tuning = {seed for group in tuning for seed in group.seeds}
    own = [plan.params(variant, 0).train for variant in plan.groups[GROUP].variants]
    return {
        "tuned_with": ", ".join(sorted({str(seed) for seed in seeds_of_tuning})),
        "rates": ", ".join(f"{rate:g}" for rate in sorted({one.learning_rate for one in own})),
        "parameters": f"{first['parameters']:,}",
        "tokens": f"{tokens - 1:,}",
        "base": plan.base,
        "seeds": ", ".join(map(str, plan.groups[GROUP].seeds)),
        "source": f"`data.source={params.data.source}`",
        "development": len(first["documents"]["development"]["tokens"]),
        "size": size.name,
        "planned": len(planned),
        "made": len(runs),
        "again": AGAIN,
        "environments": environments(runs),
    }


def environments(runs: list[dict[str, Any]]) -> str:
    """On what the runs were made, and how many on each."""
    counts = Counter(json.dumps(one["made_by"]["environment"], sort_keys=True) for one in runs)
    lines = []
    for said, count in counts.most_common():
        e = json.loads(said)
        packages = ", ".join(f"{name} {version}" for name, version in e["packages"].items())
        lines.append(
            f"- {count} run{'s' * (count > 1)}: {e['device']}, {e['threads']} thread a run, "
            f"{e['precision']}, {e['system']}, Python {e['python']}, {packages}"
        )
    return "\n".join(lines)


def main(name: str) -> None:
    def laboratory(params: Params) -> None:
        write(params, Size(name))

    run(laboratory)


if __name__ == "__main__":
    main(*arguments("SIZE"))
