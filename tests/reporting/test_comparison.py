"""The pictures of a comparison, as they stand in the page of a report."""

import html
import math
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dropgpt.comparison import statistics
from dropgpt.comparison.experiments import Run
from dropgpt.reporting.drawing import style
from dropgpt.reporting.page import _legend, page
from dropgpt.reporting.results import YARDSTICKS, Result

NAMES = [f"texts/{n}.txt" for n in range(38)] + ["<b>天地</b> & #000001", f"long {'x' * 80} end"]
BYTES = np.arange(80, 120)


def a_run(bits: Any, dropout: float, seed: int) -> Run:
    """With a loss of `bits` a byte, one for all documents or one each."""
    nats = bits * BYTES * math.log(2)
    documents = pd.DataFrame({"id": NAMES, "tokens": BYTES, "bytes": BYTES, "nats": nats})
    documents = documents.assign(nats_dropout_on=nats, sha256="same", source=NAMES)
    made_by = {"model.dropout": dropout, "train.seed": seed, "environment": "one"}
    values = ["bits_per_byte", "loss", "perplexity"]
    values += [f"{name}_{value}" for name in YARDSTICKS for value in values]
    values += ["loss_dropout_on", "perplexity_95_low", "perplexity_95_high"]
    summary = dict.fromkeys(values, 1.0)
    return Run(f"{dropout} of seed {seed}", made_by, documents, summary=summary)


def pictures(*runs: Run) -> dict[str, str]:
    """The drawings of the part on the comparison, by their headings."""
    text = page([Result(run, *[None] * 6, {}, []) for run in runs], {})  # type: ignore[arg-type]
    part = text.partition("<h3>Comparison</h3>")[2].partition("</section>")[0]
    found = re.findall("<h3>(.*?)</h3>\n(<svg.*?</svg>)", part, re.DOTALL)
    return {html.unescape(title): svg for title, svg in found}


def said(svg: str) -> list[str]:
    return [html.unescape(text) for text in re.findall(">([^<>]+)</text>", svg)]


def group(dropout: float, bits: list[Any]) -> list[Run]:
    return [a_run(loss, dropout, seed) for seed, loss in enumerate(bits, 1)]


def intervals(svg: str) -> list[tuple[float, float]]:
    """Both ends of each, read from the axis as a reader does."""
    ticks = re.findall(r' x="([\d.]+)" [^>]*>([+-][\d.]+|0)</text>', svg)
    (a, low), (b, high) = [(float(x), float(value)) for x, value in (ticks[0], ticks[-1])]
    line = r'"M ([\d.]+) ([\d.]+) \nL ([\d.]+) \2 \n" clip-path[^>]+stroke: currentColor'
    drawn = [(float(x), float(end)) for x, _, end in re.findall(line, svg)]
    return [tuple(low + (x - a) * (high - low) / (b - a) for x in ends) for ends in drawn]  # type: ignore[misc]


def test_the_seeds_and_the_interval_are_drawn_as_compare_has_them() -> None:
    runs = [*group(0.5, [3.0, 3.1, 3.05]), *group(0.1, [3.2, 3.32, 3.29])]
    one = statistics.differences(statistics.groups(runs, ["model.dropout"]), "0.5")["0.1"]
    found = pictures(*runs)
    assert list(found) == ["Each seed", "Difference to 0.5", "Documents: 0.1 beside 0.5"]
    shown = said(found["Each seed"])
    assert {"0.5 (baseline)", "3.0500", "0.1", "3.2700", "model.dropout", "bits per byte"} < {
        *shown
    }
    assert all(f"var(--run-{number})" in found["Each seed"] for number in range(6))
    drawn = found["Difference to 0.5"]
    assert "+0.2200, worse" in said(drawn)
    assert one
    assert intervals(drawn) == [pytest.approx((one.low, one.high), abs=1e-4)]


def test_one_seed_has_points_and_no_interval() -> None:
    found = pictures(a_run(3.0, 0.1, 1), a_run(3.1, 0.5, 1))
    (title,) = [title for title in found if title.startswith("Difference")]
    assert title == "Difference to 0.1 of seed 1"
    assert "+0.1000, cannot tell: one seed" in said(found[title])
    assert intervals(found[title]) == []
    assert {"var(--run-0)", "var(--run-1)"} < {*re.findall(r"var\(.*?\)", found["Each seed"])}


def test_what_is_not_in_the_difference_is_told() -> None:
    runs = [*group(0.1, [3.0, 3.1]), *group(0.5, [3.2, 3.3, 9.0])]
    text = page([Result(run, *[None] * 6, {}, []) for run in runs], {})  # type: ignore[arg-type]
    assert "0.5 of seed 3: no counterpart of 0.5 or 0.1 that is alike in all else" in text


def test_one_group_has_no_picture() -> None:
    assert pictures(*group(0.1, [3.0, 3.1])) == {}


def test_the_documents_at_both_ends_stand_by_their_names_whatever_those_are() -> None:
    better = np.linspace(0.3, -0.1, 40)
    found = pictures(*group(0.1, [3.0, 3.1]), *group(0.5, [3.0 - better, 3.1 - better]))
    shown = said(found["Documents: 0.5 beside 0.1"])
    ends = [*NAMES[:5], *NAMES[35:39]]
    assert [name for name in shown if name in NAMES] == ends  # the best first; one is too long
    assert [text for text in shown if re.fullmatch(r"long x+…x+ end", text)]
    assert [text for text in shown if re.fullmatch(r"[+-]0\.\d{4}", text)] == [
        f"{-better[n]:+.4f}" for n in [*range(5), *range(35, 40)]
    ]


def test_no_two_of_many_runs_look_alike() -> None:
    looks = [(style(number, "")["color"], style(number, "")["marker"]) for number in range(64)]
    assert len({*looks}) == 64
    legend = _legend(dict.fromkeys(range(64), "run"))
    assert len({(one["colour"], one["mark"]) for one in legend}) == 64
