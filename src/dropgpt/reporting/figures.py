"""The pictures of the page, as SVG that takes its colours from the page."""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from itertools import pairwise

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import FuncFormatter, NullFormatter

from dropgpt.reporting.results import Result

# Stand for the page's own colours, which are others in dark mode: --run-0, --run-1, ...
RUNS = [f"#0000{number:02x}" for number in range(1, 9)]
TEXT = "#000000"
FAINT = "#0000ff"  # lines of the grid, and what is there for comparison
MARKERS = "os^DvPX*"
POINTS = 120  # of a curve by step: more than that no screen shows apart
BINS = 10  # of a calibration


@dataclass(frozen=True)
class Figure:
    """A picture, and what it shows in a sentence or two."""

    title: str
    caption: str
    svg: Markup


Draw = Callable[[Axes], None]


def curves(results: list[Result]) -> list[Figure]:
    """What there is by step of the training."""
    trained = [(n, r) for n, r in enumerate(results) if r.steps is not None]
    if not trained:
        return []

    def loss(axes: Axes) -> None:
        for number, result in trained:
            at, mean = _thinned(result.steps, "loss")
            axes.plot(at, mean, color=_colour(number), alpha=0.55, linewidth=1)
            if (held_out := result.validations) is not None:
                axes.plot(held_out.step, held_out.validation_loss, **_style(number, "--"))
        first = results[0].metrics or {}
        for name in ("unigram", "trigram"):
            if f"{name}_loss" in first:
                axes.axhline(first[f"{name}_loss"], color=FAINT, linewidth=1)
                place = (0.99, first[f"{name}_loss"])
                transform = axes.get_yaxis_transform()
                axes.text(*place, name, ha="right", va="bottom", size=8, transform=transform)

    def column(name: str) -> Draw:
        def draw(axes: Axes) -> None:
            for number, result in trained:
                axes.plot(*_thinned(result.steps, name), color=_colour(number), linewidth=1.2)

        return draw

    return [
        _figure(
            "Loss by step",
            "Line: the training part, as it is read, with dropout on. Dashes and markers: some "
            "held-out windows, with dropout off.",
            loss,
            "step",
            "loss (nats a token)",
        ),
        _figure("Learning rate", "", column("learning_rate"), "step", "learning rate"),
        _figure(
            "Gradient norm",
            "Before it is scaled down to train.max_gradient_norm.",
            column("gradient_norm"),
            "step",
            "norm",
        ),
    ]


def corpus(results: list[Result]) -> list[Figure]:
    """What was read; runs of the same tokens share a line."""
    found = {r.corpus.checksum: (n, r.corpus) for n, r in reversed([*enumerate(results)]) if r.corpus}
    if not found:
        return []
    different = sorted(found.values(), key=lambda pair: pair[0])

    def ranks(axes: Axes) -> None:
        for number, one in different:
            axes.plot(one.ranks["rank"], one.ranks["count"], color=_colour(number), linewidth=1.5)
        axes.set(xscale="log", yscale="log")
        _plain(axes.xaxis, axes.yaxis)

    def lengths(axes: Axes) -> None:
        longest = max(one.training.max(initial=1) for _, one in different)
        longest = max(longest, *(one.held_out.max(initial=1) for _, one in different))
        edges = np.geomspace(1, longest + 1, 31)
        for number, one in different:
            for part, look in ((one.training, {}), (one.held_out, {"linestyle": "--"})):
                share = np.histogram(part.clip(1), edges)[0] / max(1, len(part))
                axes.stairs(100 * share, edges, color=_colour(number), linewidth=1.4, **look)
        axes.set(xscale="log")
        _plain(axes.xaxis)

    return [
        _figure(
            "Tokens by rank",
            "How often the token of each rank occurs in the whole corpus.",
            ranks,
            "rank",
            "how often",
        ),
        _figure(
            "Documents by length",
            "Line: the training part. Dashes: the held-out part.",
            lengths,
            "tokens",
            "documents (%)",
        ),
    ]


def losses(results: list[Result]) -> list[Figure]:
    """Where on the held-out part the loss is high, and what dropout does to it."""

    def on_and_off(axes: Axes) -> None:
        for number, result in enumerate(results):
            documents = result.run.documents[result.run.documents.tokens > 0]
            off = documents.nats / documents.tokens
            gap = documents.nats_dropout_on / documents.tokens - off
            look = _style(number, "") | {"markersize": 3.5, "alpha": 0.6}
            axes.plot(off, gap, **look)
        axes.axhline(0, color=FAINT, linewidth=1)

    found = [
        _figure(
            "Dropout on and off",
            "A point a document: its loss with dropout off, and how much higher (above 0) it is "
            "with dropout left on.",
            on_and_off,
            "loss, dropout off (nats a token)",
            "on minus off",
        )
    ]
    measured = [(n, r.each_token) for n, r in enumerate(results) if r.each_token is not None]
    if not measured:
        return found

    def position(axes: Axes) -> None:
        longest = max(table.before.max() for _, table in measured)
        edges = _edges(int(longest))
        for number, table in measured:
            mean = table.groupby(np.searchsorted(edges, table.before, side="right"))
            axes.plot(1 + mean.before.mean(), mean.loss.mean(), **_style(number))
        axes.set(xscale="log")
        _plain(axes.xaxis)

    names, edges = _frequencies(max(int(table.seen.max()) for _, table in measured))

    def frequency(axes: Axes) -> None:
        for number, table in measured:
            mean = table.groupby(np.searchsorted(edges, table.seen, side="right")).loss.mean()
            axes.plot(mean.index, mean, **_style(number))
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, len(names) - 0.5)

    def calibration(axes: Axes) -> None:
        for number, table in measured:
            bins = table.groupby(pd.qcut(table.likeliest, BINS, duplicates="drop"), observed=True)
            axes.plot(bins.likeliest.mean(), bins.right.mean(), **_style(number))
        end = max(axes.get_xlim()[1], axes.get_ylim()[1])
        axes.plot([0, end], [0, end], color=FAINT, linewidth=1)

    return [
        _figure(
            "Loss by position in the context",
            "The mean over tokens that could see as many tokens before them as the axis says, "
            "themselves counted: 1 is the first of a document.",
            position,
            "position",
            "loss (nats a token)",
        ),
        _figure(
            "Loss by frequency of the token",
            "The mean over held-out tokens that occur so often in the training part.",
            frequency,
            "times in the training part",
            "loss (nats a token)",
        ),
        *found,
        _figure(
            "Calibration",
            "The tokens in ten groups of one size, by the probability of the token that the "
            "model held likeliest; and how often that token came. On the line they are equal; "
            "below it the model is too sure.",
            calibration,
            "probability of the likeliest token",
            "how often it came",
        ),
    ]


def _style(number: int, line: str = "-") -> dict[str, object]:
    """Of a run: a colour, and for those who see no colours a marker."""
    return {
        "color": _colour(number),
        "marker": MARKERS[number % len(MARKERS)],
        "markersize": 4.5,
        "markeredgewidth": 0,
        "linewidth": 1.3,
        "linestyle": line,
    }


def _colour(number: int) -> str:
    return RUNS[number % len(RUNS)]


def _thinned(steps: pd.DataFrame | None, name: str) -> tuple[pd.Series, pd.Series]:
    """The steps and a column, each the mean over groups of steps, POINTS at most."""
    assert steps is not None
    means = steps.groupby(np.arange(len(steps)) // math.ceil(len(steps) / POINTS)).mean()
    return means.step, means[name]


def _edges(longest: int) -> list[int]:
    """Where groups of positions begin: each as long as all before it, in halves from 8 on."""
    edges = [0, 1, 2, 4, 6]
    while edges[-1] <= longest:
        power = 1 << edges[-1].bit_length()
        edges += [power, power * 3 // 2]
    return edges[1:]


def _frequencies(most: int) -> tuple[list[str], list[int]]:
    """Names of the groups 0, 1 to 9, 10 to 99 and so on, and where each but the first begins."""
    edges = [10**power for power in range(len(str(most)))]
    names = [f"{low:,}–\n{high - 1:,}" for low, high in pairwise(edges)]
    return ["never", *names, f"{edges[-1]:,}\nor more"], edges


def _plain(*axes: object) -> None:
    """1,000 where a logarithmic axis has 10³."""
    for axis in axes:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))  # type: ignore[attr-defined]
        axis.set_minor_formatter(NullFormatter())  # type: ignore[attr-defined]


def _figure(title: str, caption: str, draw: Draw, xlabel: str, ylabel: str) -> Figure:
    with _axes(title) as (axes, text):
        draw(axes)
        axes.set(xlabel=xlabel, ylabel=ylabel)
    alternative = f"{title}: {ylabel} by {xlabel}. {caption}".strip()
    return Figure(title, caption, _svg("".join(text), alternative))


@contextmanager
def _axes(name: str) -> Iterator[tuple[Axes, list[str]]]:
    """Axes to draw on, and a list that holds the SVG when the block has ended."""
    settings = {
        "svg.hashsalt": name,  # or marks of one picture had the names of another's
        "svg.fonttype": "none",  # text stays text
        "text.parse_math": False,
        "font.family": "sans-serif",
        "font.size": 9,
        **{f"{part}.color": TEXT for part in ("text", "xtick", "ytick")},
        **{f"axes.{part}color": TEXT for part in ("label", "edge")},
        "axes.linewidth": 0.6,
        "grid.color": FAINT,
        "grid.alpha": 0.35,
        "grid.linewidth": 0.5,
    }
    text: list[str] = []
    with rc_context(settings):
        drawing = Drawing(figsize=(4.6, 2.8), layout="constrained")
        axes = drawing.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(True)
        axes.set_axisbelow(True)
        yield axes, text
        file = StringIO()
        drawing.savefig(file, format="svg", transparent=True, metadata={"Date": None})
        text.append(file.getvalue())


def _svg(text: str, alternative: str) -> Markup:
    """What matplotlib wrote, as a part of a page: with a text for who cannot see it."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # the same in each picture, and nobody asks
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    for number, colour in enumerate(RUNS):
        text = text.replace(colour, f"var(--run-{number})")
    text = text.replace(TEXT, "currentColor").replace(FAINT, "var(--faint)")
    label = Markup('<svg role="img" aria-label="{}"').format(alternative)
    return label + Markup(text.removeprefix("<svg"))
