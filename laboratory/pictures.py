"""The map, and what dropout is worth given the rest, as pictures."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from laboratory.by_length import Row
from laboratory.results import Results
from laboratory.worth import Gain

ZOOM = 0.2  # nats a token on either side of 0
Colour = tuple[float, float, float, float]
Point = tuple[float, float]


@contextmanager
def panels(file: Path, number: int) -> Iterator[list[Axes]]:
    """Axes one above the other, saved when the block ends; the same lines give the same bytes."""
    with rc_context({"svg.hashsalt": "dropgpt", "font.size": 10}):
        figure = Figure(figsize=(6.4, 3.1 * number), layout="constrained")
        each = figure.subplots(number, 1, squeeze=False)[:, 0].tolist()
        for axes in each:
            axes.spines[["top", "right"]].set_visible(False)
        yield each
        figure.savefig(file, metadata={"Date": None})


def draw_map(file: Path, results: Results, rows: list[Row], named: dict[str, str]) -> None:
    """Above, the test loss of each rate by length; below, the same beside no dropout, enlarged.

    `named` are the settings with their rates, in the order of these from 0 on.
    """
    named = {one: f"p {p}" for one, p in named.items()}
    none, *others = named
    colour = colours([*named])
    lengths = [row.readings for row in rows]
    with panels(file, 2) as (whole, beside):
        for one in named:
            each = [results.test(one, n).sum(axis=1) / results.sizes.sum() for n in lengths]
            whole.plot(lengths, [one.mean() for one in each], color=colour[one], marker=".")
            ends = [one.min() for one in each], [one.max() for one in each]
            whole.fill_between(lengths, *ends, color=colour[one], alpha=0.25, linewidth=0)
        last: dict[str, Point] = {
            one: (lengths[-1], results.loss(one, lengths[-1])) for one in named
        }
        name(whole, last, (6, 0), named, colour)
        whole.set_ylabel("test loss\n(nats a token)")
        whole.set_title("band: from the lowest to the highest seed", fontsize=9, loc="left")

        beside.axhline(0, color=colour[none])
        beside.set_ylim(-ZOOM, ZOOM)
        name(beside, {none: (lengths[-1], 0)}, (6, 6), named, colour)
        enters: dict[str, Point] = {}
        for one in others:
            found = [row.effects[one] for row in rows]
            beside.plot(lengths, [d.mean for d in found], color=colour[one], marker=".")
            ends = [d.low for d in found], [d.high for d in found]
            beside.fill_between(lengths, *ends, color=colour[one], alpha=0.25, linewidth=0)
            readable = [
                (n, d.mean)
                for n, d in zip(lengths, found, strict=True)
                if abs(d.mean) < 0.85 * ZOOM
            ]
            enters |= {one: readable[0]} if readable else {}
        name(beside, enters, (4, 7), named, colour)
        beside.set_ylabel(f"less that at {named[none]}\n(nats a token; below 0: better)")
        beside.set_xlabel("readings: how often the text is read")
        beside.set_title("the same, enlarged; band: 95% interval", fontsize=9, loc="left")
        for axes in (whole, beside):
            axes.set_xscale("log", base=2)
            axes.set_xticks(lengths, [str(n) for n in lengths])
            axes.minorticks_off()
            axes.set_xlim(lengths[0], lengths[-1] * 1.4)


def draw_worth(file: Path, worth: dict[int, list[Gain]]) -> None:
    """The gain of the best rate given the rest, a panel for each length."""
    with panels(file, max(1, len(worth))) as each:  # a picture, though nothing was run
        for axes, (readings, gains) in zip(each, worth.items(), strict=False):
            axes.axvline(0, color="grey", linewidth=0.8)
            for place, one in enumerate(gains):
                mean, low, high = (
                    (-one.found.mean, -one.found.high, -one.found.low)
                    if one.found
                    else (0.0, 0.0, 0.0)
                )
                axes.plot([low, high], [place, place], color="black", linewidth=1)
                filled = "black" if one.found else "none"  # hollow: nothing to gain, no interval
                axes.plot([mean], [place], "o", color="black", markersize=4, mfc=filled)
                axes.annotate(
                    f"p {one.p}", (high, place), (6, 0), textcoords="offset points", va="center"
                )
            axes.set_yticks(range(len(gains)), [one.given for one in gains])
            axes.set_ylim(len(gains) - 0.5, -0.5)
            axes.set_title(f"read {readings} times", fontsize=9, loc="left")
        ends = [axes.get_xlim() for axes in each]
        for axes in each:
            axes.set_xlim(min(low for low, _ in ends), max(high for _, high in ends) * 1.1)
        each[-1].set_xlabel(
            "gain of the best rate over no dropout\n"
            "(nats a token; above 0: better; 95% interval;\n"
            "hollow: no dropout is best)"
        )


def colours(settings: list[str]) -> dict[str, Colour]:
    """From dark to light in their order, so that those who see no colours can tell them, too."""
    shades = matplotlib.colormaps["viridis"]
    last = max(1, len(settings) - 1)
    return {one: shades(0.9 * number / last) for number, one in enumerate(settings)}


def name(
    axes: Axes,
    places: dict[str, Point],
    offset: Point,
    named: dict[str, str],
    colour: dict[str, Colour],
) -> None:
    """Write at each line what it is; at one x, apart enough to be read."""
    low, high = axes.get_ylim()
    line = 0.07 * (high - low)
    at: dict[str, float] = {}
    for x in {x for x, _ in places.values()}:
        here = sorted((one for one in places if places[one][0] == x), key=lambda one: places[one])
        heights = apart([places[one][1] for one in here], line, low + line / 2)
        at |= zip(here, heights, strict=True)
    for one in places:
        axes.annotate(
            named[one],
            (places[one][0], at[one]),
            offset,
            textcoords="offset points",
            color=colour[one],
            va="center",
        )


def apart(heights: list[float], least: float, floor: float) -> list[float]:
    """The same, in rising order, moved up and down until neighbours are about `least` apart; none
    below `floor`."""
    found = [*heights]
    for _ in range(100):
        found[0] = max(found[0], floor)
        for n in range(1, len(found)):
            push = max(0.0, least - (found[n] - found[n - 1])) / 2
            found[n - 1] -= push
            found[n] += push
    return found
