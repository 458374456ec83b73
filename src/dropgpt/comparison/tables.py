"""Tables and drawings for people to read."""

from __future__ import annotations

import math
import shutil
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from rich.console import Console
from rich.table import Table

from dropgpt.comparison.interval import MOST_SEEDS
from dropgpt.errors import UserError
from dropgpt.machine.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABEL = 40  # characters of a name that a picture has room for


def markdown(table: pd.DataFrame) -> str:
    """A table of strings as Markdown; no name in it breaks its rows or columns."""
    lines = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.splitlines()).replace("|", "\\|")


def plain(table: pd.DataFrame) -> str:
    """A table of strings for a terminal: the first column and the verdicts fold where it is narrow.

    No line is longer than the terminal is wide, or than 80 columns, which the numbers take.
    """
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, name in enumerate(table):
        if number == 0 or name == "verdict":
            shown.add_column(name, overflow="fold")
        else:
            shown.add_column(name, justify="right", no_wrap=True)
    for row in table.to_numpy().tolist():
        shown.add_row(*row)
    console = Console(width=max(80, _width()), color_system=None, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(shown)
    return "\n".join(map(str.rstrip, captured.get().splitlines()))


def folded(text: str) -> str:
    """A paragraph in lines no longer than the terminal is wide; words stay whole."""
    return textwrap.fill(text, _width(), break_long_words=False, break_on_hyphens=False)


def _width() -> int:
    """Of the terminal, in columns; COLUMNS or 80 where standard output is none."""
    return shutil.get_terminal_size().columns


def narrow(table: pd.DataFrame, title: str) -> pd.DataFrame:
    """What `rounded` gives in fewer columns, for `plain`."""
    found = rounded(table, "group")
    half = ((table.high - table.low) / 2).map(" ± {:.4f}".format, na_action="ignore").fillna("")
    shown = pd.DataFrame(
        {
            "group": found.group,
            "runs,\nseeds": found.runs + ", " + found.seeds,
            "bits\nper byte": found["bits per byte"],
            "spread": found.spread,
            "perplexity": found.perplexity,
            "difference\n(95% interval)": found.difference + half,
            "verdict": found.verdict,
        }
    )
    return _titled(shown, title.replace(".", ".\n"))


def rounded(table: pd.DataFrame, title: str) -> pd.DataFrame:
    """What `statistics.table` gives, as people read it, under the title of its groups."""

    def signed(value: float) -> str:
        return "" if pd.isna(value) else f"{value:+.4f}"

    def interval(difference: float, low: float, high: float) -> str:
        if pd.isna(difference):
            return ""
        return "unknown, of one document" if pd.isna(low) else f"{low:+.4f} to {high:+.4f}"

    shown = pd.DataFrame(
        {
            "group": table.group,
            "runs": table.runs.map(str),
            "seeds": table.seeds.map(str),
            "bits per byte": table.bits_per_byte.map("{:.4f}".format),
            "spread": table.spread.map(lambda s: "" if pd.isna(s) else f"{s:.4f}"),
            "perplexity": [
                f"{value:,.1f}" if math.isfinite(value) else "beyond floating point"
                for value in table.perplexity
            ],
            "difference": table.difference.map(signed),
            "95% interval": list(map(interval, table.difference, table.low, table.high)),
            "verdict": table.verdict,
        }
    )
    return _titled(shown, title)


def _titled(table: pd.DataFrame, title: str) -> pd.DataFrame:
    """With that title over the groups, which may be that of another column, too."""
    table.columns = pd.Index([title, *table.columns[1:]])
    return table


def needed(table: pd.DataFrame, margin: float | None) -> list[str]:
    """A line for each group of which `statistics.table` cannot tell: what would."""
    lines = []
    for row in table.itertuples():
        if row.verdict == "cannot tell: one seed":
            lines.append(f"{row.group}: two seeds at least are needed before anything is said.")
        elif row.verdict == "cannot tell":
            sizes = {abs(row.difference): row.more_seeds}
            sizes |= {margin: row.more_seeds_for_margin} if margin else {}
            said = [_seeds(more, size) for size, more in sizes.items() if size]
            lines += [f"{row.group}: {'; '.join(said)}."] if said else []
    return lines


def _seeds(more: int, size: float) -> str:
    """How many more seeds would show a difference of `size` bits per byte."""
    if pd.isna(more):
        return f"not even {MOST_SEEDS:,} seeds would show {size:.4f}; more held-out text might"
    if not more:
        return f"these seeds are enough to show {size:.4f} with 80% power"
    return f"{more} more seed{'s' * int(more > 1)} would show {size:.4f} with 80% power"


def check_drawing(file: Path) -> None:
    """Raise UserError where `file` is neither .svg nor .png, or its folder is not there."""
    if file.suffix not in (".svg", ".png"):
        raise UserError(f"{file}: plots are drawn as .svg and .png")
    if not file.parent.is_dir():
        raise UserError(f"{file}: there is no folder {file.parent} to draw in")


@contextmanager
def drawing(file: Path, xlabel: str, ylabel: str, rows: int = 0) -> Iterator[Axes]:
    """Axes with room for so many rows, saved when the block ends; the same lines give the same
    bytes.

    What stood at `file` stays where it cannot be written. Raises UserError there, and, before the
    block, as `check_drawing` does.
    """
    from matplotlib import rc_context  # slow to import, and few commands draw
    from matplotlib.figure import Figure

    check_drawing(file)
    with rc_context({"svg.hashsalt": "dropgpt", "font.size": 9, "text.parse_math": False}):
        figure = Figure(figsize=(6.4, max(3.2, 1 + 0.25 * rows)), layout="constrained")
        axes = figure.subplots()
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.spines[["top", "right"]].set_visible(False)
        yield axes
        if axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False)
        kind = file.suffix.removeprefix(".")
        try:
            with replacing(file) as partial:
                figure.savefig(
                    partial, format=kind, metadata={"Date": None} if kind == "svg" else None
                )
        except OSError as error:
            raise UserError(f"{file}: cannot be written: {error.strerror}") from None


def draw(table: pd.DataFrame, title: str, file: Path) -> None:
    """A row a group: its difference to the baseline, with its interval where that is of seeds, too.

    Of one without pairs its name alone.
    """
    rows = range(len(table))
    difference = table.difference.mask(table.verdict == "baseline", 0.0)
    reach = pd.concat([difference - table.low, table.high - difference], axis=1)
    reach = reach.mask(table.seeds < 2)
    with drawing(file, "difference (bits per byte)", title, len(table)) as axes:
        axes.errorbar(difference, rows, xerr=reach.T, fmt="o", capsize=3)
        axes.axvline(0, color="gray", linewidth=0.7)
        axes.set_yticks(rows, [_shortened(group) for group in table.group])
        axes.invert_yaxis()


def _shortened(name: str) -> str:
    return name if len(name) <= LABEL else f"{name[: LABEL // 2]} ... {name[-LABEL // 2 :]}"
