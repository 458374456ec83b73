"""The page: what its template shows, in words and rounded numbers."""

import math
import re
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from dropgpt.comparison import experiments, statistics, unpaired
from dropgpt.comparison.comparable import check_comparable, why_not
from dropgpt.comparison.experiments import Run
from dropgpt.comparison.statistics import Groups
from dropgpt.comparison.tables import rounded
from dropgpt.errors import UserError
from dropgpt.printable import printable
from dropgpt.reporting import comparison, figures
from dropgpt.reporting.drawing import RUNS, marker
from dropgpt.reporting.dropout import in_words as dropout_in_words
from dropgpt.reporting.headline import headline
from dropgpt.reporting.results import Result
from dropgpt.tokens.batches import readings_in_words

EXTREMES = 5  # documents at either end, with their text
MOST = 400  # documents in the table
ABSENT = object()  # the value of a parameter that a run does not know


def page(results: list[Result], default: dict[str, Any]) -> str:
    """HTML that needs nothing from elsewhere; the same results give the same bytes.

    The first result is the baseline. `default` are the parameters that go without saying.
    """
    environment = Environment(
        loader=PackageLoader("dropgpt.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = [result.name for result in results]
    made_by = [experiments.parameters(result.chain) for result in results]
    return environment.get_template("page.html.jinja").render(
        title=", ".join(names),
        names=names,
        legend=_legend(dict(enumerate(names))),
        corpora=_legend(_sharing(results)),
        sentences=[_sentence(result) for result in results],
        notes=[note for result in results for note in result.notes],
        headline=headline(results),
        comparison=_comparison(results),
        parameters=_parameters(made_by, default),
        curves=figures.curves(results),
        corpus=figures.corpus(results),
        losses=figures.losses(results),
        measured=[None if r.each_token is None else f"{len(r.each_token):,}" for r in results],
        documents=_documents(results),
        prompts=_generations(results),
        provenance=_provenance(results),
    )


def _legend(names: dict[int, str]) -> list[dict[str, Any]]:
    """By the number of a run how it looks in the pictures, and its name there."""
    return [
        {"colour": number % len(RUNS), "mark": marker(number)[1], "name": name}
        for number, name in names.items()
    ]


def _sharing(results: list[Result]) -> dict[int, str]:
    """The names of the runs of each corpus."""
    return {
        number: ", ".join(
            r.name for r in results if r.corpus and r.corpus.checksum == corpus.checksum
        )
        for number, corpus in figures.corpora(results)
    }


def _sentence(result: Result) -> str:
    """What was run."""
    documents = result.run.documents
    measured = (
        f"measured on {documents.tokens.sum():,} held-out tokens in {len(documents):,} documents."
    )
    if "train" not in result.chain:
        return f"A model, {measured}"
    params = result.chain["train"]["params"]
    model, train = params["model"], params["train"]
    size = f" and {result.parameters:,} parameters" if result.parameters else ""
    n_train = int(result.corpus.training.sum()) if result.corpus else None
    return (
        f"A GPT of {model['n_layer']} blocks, width {model['n_embd']}{size}, "
        f"dropout of {dropout_in_words(model, train)}, trained in "
        f"{train['steps']:,} steps on {readings_in_words(params, n_train)}; {measured}"
    )


def _comparison(results: list[Result]) -> dict[str, Any] | None:
    """As `dropgpt compare` has it; where the runs do not compare, why."""
    if len(results) < 2:
        return None
    runs = [result.run for result in results]
    try:
        check_comparable(runs)
    except UserError as error:
        return {"why_not": str(error)}
    title, keys, groups, notes = _groups(runs)
    baseline = next(label for label, of in groups.items() if any(r is runs[0] for r in of.values()))
    differences = statistics.differences(groups, baseline)
    table = statistics.table(groups, baseline, differences)
    shown = rounded(table, title)
    pictures = []
    if statistics.varied(runs):  # or they differ in the seed alone, and are one group
        pictures = comparison.pictures(runs, groups, baseline, differences, table, title)
    return {
        "why_not": None,
        "title": title,
        "baseline": baseline,
        "together": len(differences),
        "columns": list(shown.columns),
        "rows": shown.to_numpy().tolist(),
        "figures": pictures,
        "notes": [
            *notes,
            *statistics.of_one_document(runs),
            *unpaired.lines(groups, baseline, keys),
        ],
    }


def _groups(runs: list[Run]) -> tuple[str, list[str], Groups, list[str]]:
    """By what the runs differ in, where that brings seeds together; or else each run for itself.

    The title, the parameters and the groups as `dropgpt compare` has them, and which runs count
    once.
    """
    found, notes = statistics.distinct(runs)
    keys = statistics.varied(found)
    try:
        groups = statistics.groups(found, keys)
    except UserError:  # alike in all that is known of them
        groups = {}
    if 1 < len(groups) < len(found):
        return ", ".join(keys), keys, groups, notes
    return "run", [], {run.name: {"": run} for run in runs}, []


def _parameters(made_by: list[dict[str, Any]], default: dict[str, Any]) -> dict[str, Any]:
    """Those that differ from the default in a run or more; and all."""
    rows = []
    for key in dict.fromkeys(key for found in made_by for key in found):
        values = [found.get(key, ABSENT) for found in made_by]
        differs = any(value != default.get(key, ABSENT) for value in values)
        shown = [_value(value) for value in [default.get(key, ABSENT), *values]]
        rows.append({"key": key, "differs": differs, "values": shown})
    return {"all": rows, "differing": [row for row in rows if row["differs"]]}


def _documents(results: list[Result]) -> dict[str, Any]:
    """The held-out documents by their loss in the first run, the highest first."""
    first = results[0]
    alike = [r for r in results if not why_not(first.run, r.run)]
    # By number, since a run may have any name; a row a document, under its place.
    bits = [r.run.documents.nats / r.run.documents.bytes / math.log(2) for r in alike]
    table = pd.concat(bits, axis=1, keys=range(len(alike)))
    table = table[first.run.documents.bytes > 0].sort_values(0, ascending=False)
    rows = []
    for place, *found in table.itertuples():
        document = first.run.documents.loc[place]
        rows.append(
            {
                "id": printable(document.id),
                "tokens": int(document.tokens),
                "bytes": int(document.bytes),
                "bits": [float(value) for value in found],
                "difference": float(found[1] - found[0]) if len(found) == 2 else None,
                "excerpt": printable(first.corpus.excerpts[place]) if first.corpus else None,
            }
        )
    shown = rows if len(rows) <= MOST else rows[: MOST // 2] + rows[-MOST // 2 :]
    ends = {"The worst predicted": rows[:EXTREMES], "The best predicted": rows[::-1][:EXTREMES]}
    return {
        "names": [r.name for r in alike],
        "rows": shown,
        "number": len(rows),
        "ends": ends if first.corpus else {},
    }


def _generations(results: list[Result]) -> list[dict[str, Any]]:
    """By prompt: a column a temperature, a row a run."""
    written = [(r.name, r.generations) for r in results if r.generations]
    prompts = dict.fromkeys(one["prompt"] for _, all_of in written for one in all_of)
    found = []
    for prompt in prompts:
        by_run = {
            name: {one["temperature"]: one for one in all_of if one["prompt"] == prompt}
            for name, all_of in written
        }
        temperatures = sorted({t for of_run in by_run.values() for t in of_run})
        rows = [
            (name, [_text(of_run.get(t)) for t in temperatures])
            for name, of_run in by_run.items()
            if of_run
        ]
        heads = ["greedy (0)" if not t else f"temperature {t}" for t in temperatures]
        found.append({"prompt": printable(prompt), "temperatures": heads, "rows": rows})
    return found


def _text(generation: dict[str, Any] | None) -> str | None:
    if generation is None:
        return None
    text = re.sub(r"\n{3,}", "\n\n", printable(generation["text"]).strip())
    return text + (" ∎" if generation["ended"] else " …")


def _provenance(results: list[Result]) -> list[dict[str, Any]]:
    """A row a stage of a run."""
    rows = []
    for result in results:
        for stage, record in result.chain.items():
            if "code" not in record:  # the stage tokenize, of which its tokens' checksum tells
                continue
            place = dict(record["environment"])
            packages = place.pop("packages")
            rows.append(
                {
                    "run": result.name,
                    "stage": stage,
                    "inputs": [f"{name} {value[:16]}" for name, value in record["inputs"].items()],
                    "code": record["code"][:16],
                    "place": [f"{name} {value}" for name, value in place.items()],
                    "packages": [f"{name} {value}" for name, value in packages.items()],
                }
            )
    return rows


def _value(value: Any) -> str:
    """As params.yaml has it."""
    if value is ABSENT:
        return ""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return ", ".join(map(_value, value)) or "[]"
    return printable(str(value))
