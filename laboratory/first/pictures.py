"""The map and the effects of each rate, as pictures."""

import math
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from dropgpt.comparison.report import drawing
from laboratory.first import rates

MAP, EFFECTS = Path("docs/map.svg"), Path("docs/effects.svg")


def colors(table: pd.DataFrame) -> dict[float, str]:
    """p -> a color, the same in all pictures."""
    shades = ("#b2182b", "#ef8a62", "#d9a400", "#4d9221", "#2166ac", "#542788", "#000000")
    return dict(zip(sorted(set(table.p)), shades, strict=False))


def show_readings(axes: Axes, last: int) -> None:
    """The horizontal axis: powers of two from 1 to `last`."""
    axes.set_xscale("log", base=2)
    ticks = [2**n for n in range(last.bit_length())]
    axes.set_xticks(ticks, [str(n) for n in ticks])
    axes.set_xlim(1, last)


def draw_map(table: pd.DataFrame) -> None:
    """The held-out loss by number of readings, a line a rate; below, which rate is best where."""
    color = colors(table)
    over = table.groupby(["p", "readings"]).loss.agg(["mean", "min", "max"])
    floor, top = over["mean"].min(), over["mean"].xs(1, level="readings").max()
    strip = 0.06 * (top - floor)
    last = int(table.readings.max())
    with drawing(MAP, "how often the text has been read", "held-out loss (nats a token)") as axes:
        for p, line in over.groupby(level="p"):
            line = line.droplevel("p")
            axes.plot(line.index, line["mean"], color=color[p], linewidth=1.6, label=f"p = {p:g}")
            axes.fill_between(line.index, line["min"], line["max"], color=color[p], alpha=0.15)
        for low, high, p in rates.stretches(rates.best(table)):
            # To the middle between two readings, on the logarithmic axis.
            left, right = (
                max(1, math.sqrt(low * (low - 1))),
                min(last, math.sqrt(high * (high + 1))),
            )
            bottom, upper = floor - 3 * strip, floor - 1.5 * strip
            axes.fill_between([left, right], bottom, upper, color=color[p], linewidth=0)
            place = (math.sqrt(left * right), (bottom + upper) / 2)
            axes.text(*place, f"{p:g}", color="white", ha="center", va="center", fontsize=8)
        axes.set_title("the bar at the bottom: which p is best", fontsize=9, loc="left")
        axes.set_ylim(floor - 3 * strip, top + strip)
        show_readings(axes, last)


def draw_effects(table: pd.DataFrame, cells: pd.DataFrame) -> None:
    """The loss less that without dropout, by number of readings, with 95% intervals."""
    color = colors(table)
    with drawing(EFFECTS, "how often the text has been read", "loss less that at p = 0") as axes:
        for p, line in cells.groupby("p"):
            axes.plot(line.readings, line["mean"], color=color[p], label=f"p = {p:g}")
            axes.fill_between(line.readings, line.low, line.high, color=color[p], alpha=0.2)
        axes.axhline(0, color="gray", linewidth=0.7)
        axes.set_yscale("symlog", linthresh=0.2)
        ticks = [y for y in (-2, -1, -0.5, -0.2, -0.1, 0, 0.1, 0.2, 0.5, 1) if y > cells.low.min()]
        axes.set_yticks(ticks, [f"{y:+g}" for y in ticks])
        show_readings(axes, int(cells.readings.max()))
