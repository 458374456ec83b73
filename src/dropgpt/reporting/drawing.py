"""A picture as SVG that takes its colours from the page."""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import FuncFormatter, NullFormatter

# Stand for the page's own colours, which are others in dark mode: --run-0, --run-1, ...
RUNS = [f"#0000{number:02x}" for number in range(1, 9)]
TEXT = "#000000"
FAINT = "#0000ff"  # lines of the grid, and what is there for comparison
MARKERS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "P": "✚", "X": "✖", "*": "★"}

WIDTH, HEIGHT = 4.6, 2.8  # inches

Draw = Callable[[Axes], None]


@dataclass(frozen=True)
class Figure:
    """A picture, and what it shows in a sentence or two."""

    title: str
    caption: str
    svg: Markup


def style(number: int, line: str = "-") -> dict[str, Any]:
    """Of a run: a colour, and for those who see no colours a marker."""
    return {
        "color": colour(number),
        "marker": marker(number)[0],
        "markersize": 4.5,
        "markeredgewidth": 0,
        "linewidth": 1.3,
        "linestyle": line,
    }


def colour(number: int) -> str:
    return RUNS[number % len(RUNS)]


def marker(number: int) -> tuple[str, str]:
    """Of a run: matplotlib's, and the sign that looks like it.

    Runs that share a colour have other ones: no two of the first 64 look alike.
    """
    return list(MARKERS.items())[(number + number // len(RUNS)) % len(MARKERS)]


def plain_numbers(*axes: Axis) -> None:
    """1,000 where a logarithmic axis has 10³."""
    for axis in axes:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axis.set_minor_formatter(NullFormatter())


def figure(
    title: str, caption: str, draw: Draw, xlabel: str, ylabel: str, height: float = HEIGHT
) -> Figure:
    """What `draw` draws on its axes, `height` in inches; the same lines give the same bytes."""
    with _axes(title, height) as (axes, text):
        draw(axes)
        axes.set(xlabel=xlabel, ylabel=ylabel)
    alternative = f"{title}: {ylabel} by {xlabel}. {caption}".strip()
    return Figure(title, caption, _svg("".join(text), alternative))


@contextmanager
def _axes(name: str, height: float) -> Iterator[tuple[Axes, list[str]]]:
    """Axes to draw on, and a list that holds the SVG when the block has ended."""
    settings: Any = {
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
    with rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the reader's fonts draw it, not matplotlib's
        drawing = Drawing(figsize=(WIDTH, height), layout="constrained")
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
    text = re.sub("<[^>]+>", lambda tag: _page_colours(tag[0]), text)  # not what stands between
    label = Markup('<svg role="img" aria-label="{}"').format(alternative)
    return label + Markup(text.removeprefix("<svg"))


def _page_colours(tag: str) -> str:
    for number, colour in enumerate(RUNS):
        tag = tag.replace(colour, f"var(--run-{number})")
    return tag.replace(TEXT, "currentColor").replace(FAINT, "var(--faint)")
