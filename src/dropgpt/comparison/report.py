"""Tables and drawings for people to read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from dropgpt.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def markdown(table: pd.DataFrame) -> str:
    """A table of strings as Markdown."""
    lines = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def rounded(table: pd.DataFrame, title: str) -> pd.DataFrame:
    """What `statistics.table` gives, as people read it, under the title of its groups."""

    def signed(value: float) -> str:
        return "" if pd.isna(value) else f"{value:+.4f}"

    def interval(difference: float, low: float, high: float) -> str:
        if pd.isna(difference):
            return ""
        return "unknown, of one document" if pd.isna(low) else f"{low:+.4f} to {high:+.4f}"

    return pd.DataFrame(
        {
            title: table.group,
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


@contextmanager
def drawing(file: Path, xlabel: str, ylabel: str) -> Iterator[Axes]:
    """Axes to draw on, saved when the block ends; the same lines give the same bytes.

    Raises UserError, before the block, where `file` is neither .svg nor .png, or its
    folder is not there.
    """
    from matplotlib import rc_context  # slow to import, and few commands draw
    from matplotlib.figure import Figure

    if file.suffix not in (".svg", ".png"):
        raise UserError(f"{file}: plots are drawn as .svg and .png")
    if not file.parent.is_dir():
        raise UserError(f"{file}: there is no folder {file.parent} to draw in")
    with rc_context({"svg.hashsalt": "dropgpt", "font.size": 9}):
        figure = Figure(figsize=(6.4, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.spines[["top", "right"]].set_visible(False)
        yield axes
        if axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False)
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
