"""`dropgpt compare`: whether runs differ by more than chance."""

import json
import math
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dropgpt.comparison import experiments, result_file, statistics, unpaired
from dropgpt.comparison.comparable import check_comparable, comparable
from dropgpt.comparison.experiments import Run
from dropgpt.comparison.interval import answer, bonferroni
from dropgpt.comparison.statistics import SEED, Groups
from dropgpt.comparison.tables import (
    check_drawing,
    draw,
    folded,
    markdown,
    narrow,
    needed,
    plain,
    rounded,
)
from dropgpt.errors import UserError
from dropgpt.machine.progress import UNSEEN, progress
from dropgpt.machine.repository import since_head

NOTE = """The spread over the runs and the difference to the baseline are in bits per byte, too.
The interval takes in the chance of seeds and of documents; better and worse are said where it
leaves out 0. With one seed it knows of the documents only, and nothing is said. Perplexities
compare within one vocabulary only.
"""
TOGETHER = """The intervals hold together: all {} comparisons are right at once in 95% of cases.
"""
EARLIER = "`dvc exp ls --all-commits` lists those of other commits, too"
OF_YAML = {"true": "True", "false": "False", "null": "None"}  # as params.yaml and -S have them
STATUS = {"holds": 0, "does not hold": 1, "cannot tell": 3}  # 2 is a mistake, as argparse has it


@dataclass(frozen=True)
class Comparison:
    """What was found.

    title        in what the groups differ
    table        see `statistics.table`
    comparisons  how many there are, and were before: their intervals hold together
    claim        what `--require` asks for, if it does, and `margin` with it
    answer       to that; see `interval.answer`
    runs         in what they differ, by the name of each
    pair         a run and the baseline's, where just two were named
    notes        what to know of all this, in lines
    """

    title: str
    table: pd.DataFrame
    comparisons: int
    claim: str | None
    margin: float | None
    answer: str | None
    runs: dict[str, dict[str, object]]
    pair: tuple[Run, Run] | None
    notes: list[str]


def run(
    revisions: list[str],
    by: list[str] | None,
    baseline: str | None,
    group: list[str] | None,
    plot: Path | None,
    format: str | None,
    require: str | None,
    margin: float | None,
    tries: int,
) -> int:
    """The exit status that `require` asks for, or 0."""
    _check(revisions, by, group, require, margin, tries)
    if plot:
        check_drawing(plot)
    members = result_file.expand(group or [])
    in_groups = {_which(name): name for names in members.values() for name in names}
    named = [in_groups.get(_which(name), name) for name in revisions]
    revisions = list(dict.fromkeys([*named, *in_groups.values()]))
    title, keys, groups, runs, notes = _grouped(revisions, members, by)
    if require and baseline is None and keys:
        # The first is but the lowest value, not what was there before.
        raise UserError(
            f"compare: --require {require} beside which of these? --baseline takes one of "
            f"{', '.join(groups)}"
        )
    if baseline is not None:
        baseline = _label(baseline, groups)
    baseline = baseline or next(iter(groups))
    differences = statistics.differences(groups, baseline, tries)
    differing = [SEED, *statistics.varied(runs)]
    found = Comparison(
        title,
        table=statistics.table(groups, baseline, differences, margin),
        comparisons=len(differences) + tries,
        claim=require,
        margin=margin,
        answer=require and answer(differences.values(), require, margin or 0.0),
        runs={run.name: {key: run.made_by.get(key) for key in differing} for run in runs},
        pair=_two(groups, baseline) if len(revisions) == 2 else None,
        notes=notes + statistics.of_one_document(runs) + unpaired.lines(groups, baseline, keys),
    )
    _print(found, format)  # before what may fail
    if plot:
        draw(found.table, title, plot)
    return STATUS[found.answer] if found.answer else 0


def _check(
    revisions: list[str],
    by: list[str] | None,
    group: list[str] | None,
    require: str | None,
    margin: float | None,
    tries: int,
) -> None:
    if by and group:
        raise UserError("compare: --by and --group are two ways to group: take one")
    which = [_which(name) for name in revisions]
    twice = [name for name, one in zip(revisions, which, strict=True) if which.count(one) > 1]
    if twice:
        raise UserError(f"compare: {twice[0]} is named twice")
    if tries < 0:
        raise UserError(f"compare: --tries {tries} is below 0")
    if margin is not None and not 0 < margin < math.inf:
        raise UserError(f"compare: --margin {margin} is no size: give one above 0")
    if require == "no-worse" and margin is None:
        raise UserError("compare: --require no-worse takes a --margin, in bits per byte")


def _label(baseline: str, groups: Iterable[str]) -> str:
    """The group that is meant: 0 is 0.0, too, and false is False.

    Raises UserError where there is none.
    """
    labels = list(groups)
    for one in (baseline, OF_YAML.get(baseline)):
        if one in labels:
            return one
    with suppress(ValueError):
        number = float(baseline)
        for label in labels:
            with suppress(ValueError):
                if float(label) == number:
                    return label
    raise UserError(f"compare: --baseline {baseline} is none of {', '.join(labels)}")


def _which(name: str) -> str:
    """The same for each spelling of one result file's path."""
    return str(Path(name).resolve()) if result_file.is_one(name) else name


def _runs(revisions: list[str]) -> tuple[list[Run], list[str]]:
    """What is to be compared, and what to know of it.

    What was named must be there and comparable; of all experiments, what is not is left out.
    """
    if lacking := next((n for n in revisions if n.endswith(".json") and not Path(n).is_file()), ""):
        raise UserError(f"compare: {lacking}: no such result file")
    for name in revisions:
        if ".json" in name.lower() and Path(name).is_file() and not result_file.is_one(name):
            raise UserError(f"compare: {name}: a result file ends in .json: unpack or rename it")
    notes: list[str] = []
    if revisions:
        runs = [
            result_file.read(name) if result_file.is_one(name) else experiments.read(name)
            for name in progress("compare", "runs", 10, len(revisions), revisions, delay=UNSEEN)
        ]
        check_comparable(runs)
    else:
        named = since_head().items()
        told = progress("compare", "runs", 10, len(named), named, delay=UNSEEN)
        found, notes = experiments.read_all(told)
        runs, lines = comparable(found)
        notes += lines
    notes += [line for run in runs for line in run.notes]
    if len(runs) < 2:
        beside = [] if revisions else [f"`dropgpt compare HEAD {run.name}`, say" for run in runs]
        raise UserError(
            "; ".join(["compare: it takes two runs or more", *notes])
            + f": name them ({'; '.join([*beside, EARLIER])}), or run "
            "experiments from this commit, as "
            "`dvc exp run --queue -S model.dropout=0.0,0.2 -S train.seed=1,2,3`"
        )
    return runs, notes


def _grouped(
    revisions: list[str], members: dict[str, list[str]], by: list[str] | None
) -> tuple[str, list[str], Groups, list[Run], list[str]]:
    """In what the groups differ, by which parameters they do, the groups, all of their runs, and
    what to know of these."""
    runs, notes = _runs(revisions)
    if members:
        return "group", [], result_file.grouped(runs, members), runs, notes
    if revisions and not by:
        return "run", [], {run.name: {"": run} for run in runs}, runs, notes
    runs, lines = statistics.distinct(runs)
    keys = by or statistics.varied(runs)
    return ", ".join(keys), keys, statistics.groups(runs, keys), runs, notes + lines


def _two(groups: Groups, baseline: str) -> tuple[Run, Run] | None:
    """The other run and the baseline's, where there are just two."""
    labels = sorted(groups, key=lambda label: label == baseline)
    each = [run for label in labels for run in groups[label].values()]
    return (each[0], each[1]) if len(groups) == len(each) == 2 else None


def _records(table: pd.DataFrame) -> list[dict[str, object]]:
    return json.loads(table.to_json(orient="records"))


def _print(found: Comparison, format: str | None) -> None:
    """To standard output what was asked for; to standard error, unless it is in there, the rest."""
    match format:
        case "csv":
            print(found.table.to_csv(index=False), end="")
        case "md":
            print(markdown(rounded(found.table, found.title)))
        case "json":
            print(json.dumps(_for_programs(found), indent=2))
            return
        case None:
            _print_for_people(found)
    for note in found.notes:
        print(folded(f"note: {note}"), file=sys.stderr)
    if found.claim:
        print(folded(f"--require {found.claim}: {found.answer}"), file=sys.stderr)


def _for_programs(found: Comparison) -> dict[str, object]:
    claim = {"claim": found.claim, "margin": found.margin, "answer": found.answer}
    documents = found.pair and _records(statistics.by_document([found.pair]))
    return {
        "by": found.title,
        "groups": _records(found.table),
        "comparisons": found.comparisons,
        "confidence_of_each": bonferroni(found.comparisons),
        "require": found.claim and claim,
        "needed": needed(found.table, found.margin),
        "notes": found.notes,
        "runs": found.runs,
    } | ({} if documents is None else {"documents": documents})


def _print_for_people(found: Comparison) -> None:
    note = NOTE + (TOGETHER.format(found.comparisons) if found.comparisons > 1 else "")
    print(plain(narrow(found.table, found.title)), folded(note), sep="\n\n", end="\n\n")
    if lines := needed(found.table, found.margin):
        print(*map(folded, lines), sep="\n", end="\n\n")
    if found.pair:
        ours, theirs = (run.name for run in found.pair)
        _print_differing(found.runs[theirs], found.runs[ours])
        _print_documents(statistics.by_document([found.pair]), theirs, ours)


def _print_differing(baseline: dict[str, object], ours: dict[str, object]) -> None:
    for key, value in baseline.items():
        print(folded(f"{key}: {' -> '.join(dict.fromkeys([str(value), str(ours[key])]))}"))


def _print_documents(documents: pd.DataFrame, baseline: str, name: str) -> None:
    better = int((documents.difference < 0).sum())
    worse = int((documents.difference > 0).sum())
    said = (
        f"Of {len(documents)} documents {better} are better in {name} than in {baseline}, the "
        f"baseline, and {worse} worse. Those at the ends, in bits per byte:"
    )
    print(folded(said), end="\n\n")
    ends = statistics.ends(documents)
    losses = ends[["bits_per_byte", "baseline", "difference"]].map("{:.4f}".format)
    shown = pd.concat([ends.id, ends.bytes.map(str), losses], axis=1)
    print(plain(shown.rename(columns={"bits_per_byte": "bits\nper byte"})))
