"""The page and its picture, from what the runs have found: `python -m laboratory.page SIZE`"""

import json
import math
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from dropgpt.comparison.interval import Difference
from dropgpt.comparison.report import markdown
from dropgpt.errors import UserError
from dropgpt.machine.files import sha256
from dropgpt.params import Params
from laboratory import map as by_length
from laboratory import rates
from laboratory.claims import CLAIMS, MARGIN
from laboratory.judge import NOT_YET_RUN, Verdict, judge, seen
from laboratory.map import Best, Row
from laboratory.pictures import draw_map
from laboratory.plan import Size
from laboratory.results import TUNING, Results, files, load, read, table
from laboratory.worth import gains
from stages import run

GROUP = "map"
WORTH_AT = (8, 12, 16)  # readings
TEMPLATE = Path("laboratory/template.md")
PAGE, PICTURE = Path("RESULTS.md"), Path("docs/map.svg")


def write(params: Params, size: Size) -> None:
    results = read(size)
    plan = size.load()
    named = settings(size)
    if not set(named) <= set(results.settings):
        planned = files(size, plan, GROUP)
        missing = [file for file in planned if not file.exists()]
        raise UserError(
            f"laboratory: {len(missing)} of {len(planned)} runs of the group {GROUP} not made yet, "
            f"as {missing[0]}: `python -m laboratory {size.name}` makes them"
        )
    rows = by_length.rows(results, [*named])
    draw_map(PICTURE, results, rows, named)
    PAGE.write_text(page(params, size, results, rows, named), encoding="utf-8")
    print(f"laboratory: {PAGE} and {PICTURE}")


def settings(size: Size) -> dict[str, str]:
    """Those of the map, in the order of their rates, and what they are called."""
    plan = size.load()
    group = plan.groups[GROUP]
    p = {
        variant.rpartition("-")[0]: plan.params(variant, group.seeds[0]).model.dropout
        for variant in group.variants
    }
    return {one: f"p {p[one]:g}" for one in sorted(p, key=lambda one: p[one])}


def page(
    params: Params, size: Size, results: Results, rows: list[Row], named: dict[str, str]
) -> str:
    plan = size.load()
    bests = by_length.bests(results, [*named])
    verdicts = judge(CLAIMS, results)
    said = Counter(one.said for one in verdicts)
    made = [file for name in plan.groups for file in files(size, plan, name) if file.exists()]
    runs = [load(file) for file in made]
    first = load(files(size, plan, GROUP)[0])
    tuned = rates.tuned(table(size, plan.groups[TUNING].variants))
    return TEMPLATE.read_text(encoding="utf-8").format(
        answer=answer(rows, bests, named),
        use=markdown(use_table(rows, named)),
        bests=markdown(bests_table(bests, named)),
        worth=markdown(worth_table(results)) if gains(results, WORTH_AT[-1]) else "Not run yet.",
        map=markdown(map_table(rows, named)),
        rates=", ".join(f"{rate:g}" for rate in sorted(set(tuned.learning_rate))),
        verdicts=markdown(verdicts_table(verdicts)),
        claims=len(CLAIMS),
        judged=len(CLAIMS) - said.pop(NOT_YET_RUN, 0),
        counts=", ".join(f"{count} {what}" for what, count in said.most_common()) or "none",
        margin=MARGIN,
        parameters=f"{first['parameters']:,}",
        tokens=f"{first['made_by']['params']['train']['tokens'] - 1:,}",
        base=plan.base,
        seeds=", ".join(map(str, plan.groups[GROUP].seeds)),
        source=f"`data.source={params.data.source}`",
        development=len(first["documents"]["development"]["tokens"]),
        test=len(results.sizes),
        size=size.name,
        planned=sum(len(files(size, plan, name)) for name in plan.groups),
        made=len(made),
        taken_over=taken_over(size, runs),
        environments=environments(runs),
    )


def answer(rows: list[Row], bests: list[Best], named: dict[str, str]) -> str:
    """The result in a few sentences."""
    p = {one: name.removeprefix("p ") for one, name in named.items()}
    said = []
    for stretch in stretches(rows):
        tied = [p[one] for one in named if all(one in row.ties for row in stretch)]
        as_good = f", and {' and '.join(tied)} as good" if tied else ""
        best = f"**{p[stretch[0].best]}**{as_good}"
        said.append(f"Read {often(stretch)}, the best rate of dropout is {best}.")
    best_of_all = min(bests, key=lambda one: one.loss)
    none = bests[0]
    if best_of_all.effect is None:
        return " ".join([*said, "If you may choose how often, no dropout is best."])
    ours = f"{p[best_of_all.setting]} with {best_of_all.readings} readings"
    theirs = f"no dropout with {none.readings}"
    return " ".join([*said, f"If you may choose how often: {beside(best_of_all, ours, theirs)}."])


def beside(best: Best, ours: str, theirs: str) -> str:
    """The best of all and no dropout at its best, in words."""
    assert best.effect
    if best.effect.high >= 0:
        return f"{ours} is not surely better than {theirs} ({told(best.effect)} nats a token)"
    low, high = -best.effect.high, -best.effect.low
    return (
        f"{ours} ends {-best.effect.mean:.3f} nats a token ({low:.3f} to {high:.3f}) below {theirs}"
    )


def stretches(rows: list[Row]) -> list[list[Row]]:
    """Neighbours with the same best rate together."""
    found: list[list[Row]] = []
    for row in rows:
        if found and found[-1][0].best == row.best:
            found[-1].append(row)
        else:
            found.append([row])
    return found


def often(stretch: list[Row]) -> str:
    low, high = stretch[0].readings, stretch[-1].readings
    if low == high:
        return "once" if low == 1 else f"{low} times"
    return f"{low} to {high} times"


def told(found: Difference) -> str:
    return f"{found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def use_table(rows: list[Row], named: dict[str, str]) -> pd.DataFrame:
    """What to set, by how often the text is read."""
    return pd.DataFrame(
        {
            "readings": str(row.readings),
            "best p": f"**{named[row.best].removeprefix('p ')}**",
            "as good": ", ".join(named[one].removeprefix("p ") for one in row.ties) or "none",
            "gain over p 0, nats a token": gain(row.gain) if row.gain else "0",
            "perplexity": f"{math.expm1(row.gain.mean):+.1%}" if row.gain else "0",
            "test loss": f"{row.loss:.3f}",
        }
        for row in rows
    )


def gain(found: Difference) -> str:
    """Above 0 where the loss is lower."""
    return f"{-found.mean:.3f} ({-found.high:.3f} to {-found.low:.3f})"


def bests_table(bests: list[Best], named: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "p": named[one.setting].removeprefix("p "),
            "readings": str(one.readings),
            "chosen again": ", ".join(f"{n}: {share:.0%}" for n, share in one.chosen.items()),
            "test loss": f"{one.loss:.3f}",
            "gain over p 0 at its best, nats a token": gain(one.effect) if one.effect else "0",
        }
        for one in bests
    )


def worth_table(results: Results) -> pd.DataFrame:
    """The gain of the best rate given the rest, by length; of what has been run."""
    return pd.DataFrame(
        {
            "given": one.given,
            "readings": str(readings),
            "best p": f"**{rate(one.best)}**",
            "test loss without": f"{one.losses[0]:.3f}",
            "with": f"{one.losses[1]:.3f}",
            "gain, nats a token": gain(one.found) if one.found else "0",
        }
        for readings in WORTH_AT
        for one in gains(results, readings)
    )


def rate(name: str) -> str:
    """p20 is 0.2."""
    return f"{int(name.removeprefix('p')) / 100:g}"


def map_table(rows: list[Row], named: dict[str, str]) -> pd.DataFrame:
    _, *others = named
    return pd.DataFrame(
        {"readings": str(row.readings)} | {named[one]: told(row.effects[one]) for one in others}
        for row in rows
    )


def verdicts_table(verdicts: list[Verdict]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "claim": claim.text,
            "source": claim.source,
            "verdict": f"**{one.said}**" if one.found else one.said,
            "the number, nats a token": f"{claim.number}: {told(one.found)}"
            if one.found
            else claim.number,
            "p value": "" if not one.found else "< 0.0001" if one.p < 1e-4 else f"{one.p:.4f}",
            "seen with 80% power": f"{seen(one.found, len(CLAIMS)):.3f}" if one.found else "",
        }
        for claim, one in zip(CLAIMS, verdicts, strict=True)
    )


def taken_over(size: Size, runs: list[dict[str, Any]]) -> str:
    """Which were made by other code than is there now."""
    now = sha256(size.setting)
    older = sum(one["made_by"]["setting"] != now for one in runs)
    if not older:
        return "All of them were made by the code and with the parameters that stand here."
    return (
        f"{older} of them were made by earlier code and taken over, after some had been made "
        "again with the same bytes (`make results-check`)."
    )


def environments(runs: list[dict[str, Any]]) -> str:
    """On what the runs were made, and how many on each."""
    counts = Counter(json.dumps(one["made_by"]["environment"], sort_keys=True) for one in runs)
    lines = []
    for said, count in counts.most_common():
        e = json.loads(said)
        packages = ", ".join(f"{name} {version}" for name, version in e["packages"].items())
        lines.append(
            f"- {count} runs: {e['device']}, {e['threads']} thread a run, {e['precision']}, "
            f"{e['system']}, Python {e['python']}, {packages}"
        )
    return "\n".join(lines)


def main(name: str) -> None:
    run(lambda params: write(params, Size(name)))


if __name__ == "__main__":
    main(sys.argv[1])
