"""The pictures of a comparison: each seed, the differences, and the documents at both ends."""

import textwrap
from collections.abc import Iterable, Sized
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from dropgpt.comparison import statistics
from dropgpt.comparison.experiments import Run
from dropgpt.comparison.interval import Difference
from dropgpt.comparison.statistics import SHOWN, Groups
from dropgpt.printable import printable
from dropgpt.reporting.drawing import FAINT, TEXT, Figure, figure, style

LONGEST = 54  # characters over a row, its name and its value
ROW, FRAME, LOWEST = 0.43, 0.8, 2.0  # inches; upright, a folded title fits into the lowest

DIFFERENCE = "difference (bits per byte, below 0 is better)"


def pictures(
    runs: list[Run],
    groups: Groups,
    baseline: str,
    differences: dict[str, Difference | None],
    table: pd.DataFrame,
    title: str,
) -> list[Figure]:
    """Of what `statistics.groups`, `differences` and `table` give; groups differ in `title`.

    A run looks as in the other pictures, by its place in `runs`.
    """
    known = {label: one for label, one in differences.items() if one}
    found = [_seeds(runs, groups, table, title)]
    if known:
        found.append(_differences(known, baseline, title))
    for label in known:
        pairs = statistics.paired(groups[label], groups[baseline])
        found.append(_documents(label, baseline, statistics.by_document(pairs)))
    return found


def _seeds(runs: list[Run], groups: Groups, table: pd.DataFrame, title: str) -> Figure:
    numbers = {run.name: number for number, run in enumerate(runs)}
    bits = [
        {numbers[run.name]: statistics.bits_per_byte(run) for run in of.values()}
        for of in groups.values()
    ]
    names = table.group + np.where(table.verdict == "baseline", " (baseline)", "")

    def seeds(axes: Axes) -> None:
        for row, (mean, of) in enumerate(zip(table.bits_per_byte, bits, strict=True)):
            axes.plot(mean, row, "|", color=TEXT, markersize=13)
            for number, value in of.items():
                axes.plot(value, row, **style(number, "") | {"markersize": 6, "alpha": 0.8})
        axes.ticklabel_format(axis="x", useOffset=False)
        _rows(axes, names, table.bits_per_byte.map("{:.4f}".format))

    return figure(
        "Each seed",
        "A point a run. The upright line and the number: the mean. Further left is better.",
        seeds,
        "bits per byte",
        _folded(title),
        _height(groups),
    )


def _differences(known: dict[str, Difference], baseline: str, title: str) -> Figure:
    def intervals(axes: Axes) -> None:
        for row, one in enumerate(known.values()):
            if one.seeds > 1:
                axes.plot([one.low, one.high], [row, row], "|-", color=TEXT, markersize=7)
            axes.plot(one.mean, row, "o", color=TEXT, markersize=6)
        _signed(axes)
        _rows(axes, known, [f"{one.mean:+.4f}, {one.verdict}" for one in known.values()])

    return figure(
        f"Difference to {baseline}",
        "Line: the 95% interval, of seeds and documents together; without it there is one seed, "
        "and no verdict. Better and worse are said where it leaves out 0.",
        intervals,
        DIFFERENCE,
        _folded(title),
        _height(known),
    )


def _documents(label: str, baseline: str, documents: pd.DataFrame) -> Figure:
    """Of what `statistics.by_document` gives, the best first."""
    ends = statistics.ends(documents)

    def stems(axes: Axes) -> None:
        axes.hlines(range(len(ends)), 0, ends.difference, color=TEXT, linewidth=1.3)
        axes.plot(ends.difference, range(len(ends)), "o", color=TEXT, markersize=5)
        _signed(axes)
        _rows(axes, ends.id, ends.difference.map("{:+.4f}".format))

    which = f"Of {len(documents):,} the {SHOWN} at each end"
    if len(ends) == len(documents):
        which = f"All {len(documents)}"
    return figure(
        f"Documents: {label} beside {baseline}",
        f"{which}, the mean over the seeds: above what gains most, below what gains least or "
        "loses most.",
        stems,
        DIFFERENCE,
        "document",
        _height(ends),
    )


def _rows(axes: Axes, names: Iterable[str], values: Iterable[str]) -> None:
    """Downwards from 0: over each row its name at the left, and its value at the right."""
    place: dict[str, Any] = {"va": "bottom", "transform": axes.get_yaxis_transform()}
    number = 0
    for number, (name, value) in enumerate(zip(names, values, strict=True)):
        axes.text(0.01, number - 0.2, _short(name, LONGEST - len(value)), ha="left", **place)
        axes.text(0.99, number - 0.2, value, ha="right", **place)
    axes.set_ylim(number + 0.4, -0.8)
    axes.set_yticks([])
    axes.margins(x=0.08)
    axes.locator_params(axis="x", nbins=5)


def _signed(axes: Axes) -> None:
    """A line at 0, and ticks that have their sign."""
    axes.axvline(0, color=FAINT, linewidth=1)
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:+.6g}" if value else "0")
    )


def _height(rows: Sized) -> float:
    return max(LOWEST, FRAME + ROW * len(rows))


def _folded(title: str) -> str:
    return textwrap.fill(title, 20)


def _short(name: str, longest: int) -> str:
    """In one line, without its middle where it is too long: files are told apart by their ends."""
    line = " ".join(printable(name).split())
    half = longest // 2
    return line if len(line) <= longest else f"{line[: half - 1]}…{line[-half:]}"
