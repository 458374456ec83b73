"""The pictures of the page."""

import math
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from dropgpt.reporting.drawing import FAINT, Draw, Figure, colour, figure, plain_numbers, style
from dropgpt.reporting.results import YARDSTICKS, Corpus, Result

POINTS = 120  # of a curve by step: more than that no screen shows apart
BINS = 10  # of a calibration

Measured = list[tuple[int, pd.DataFrame]]  # the numbers of runs, and the table of each_token


def curves(results: list[Result]) -> list[Figure]:
    """What there is by step of the training."""
    trained = [(n, r) for n, r in enumerate(results) if r.steps is not None]
    if not trained:
        return []

    def loss(axes: Axes) -> None:
        for number, result in trained:
            at, mean = _thinned(result.steps, "loss")
            axes.plot(at, mean, color=colour(number), alpha=0.55, linewidth=1)
            if (held_out := result.validations) is not None:
                axes.plot(held_out.step, held_out.validation_loss, **style(number, "--"))
        for name in YARDSTICKS:
            reached = {result.run.summary[f"{name}_loss"] for _, result in trained}
            value = reached.pop()
            if reached or value is None:  # each of another text, which the table tells apart
                continue
            axes.axhline(value, color=FAINT, linewidth=1)
            aside = axes.get_yaxis_transform()
            axes.text(0.99, value, name, ha="right", va="bottom", size=8, transform=aside)

    def column(name: str) -> Draw:
        def draw(axes: Axes) -> None:
            for number, result in trained:
                axes.plot(*_thinned(result.steps, name), color=colour(number), linewidth=1.2)

        return draw

    return [
        figure(
            "Loss by step",
            "Line: the training part, as it is read, with dropout on. Dashes and markers: some "
            "held-out windows, with dropout off.",
            loss,
            "step",
            "loss (nats a token)",
        ),
        figure("Learning rate", "", column("learning_rate"), "step", "learning rate"),
        figure(
            "Gradient norm",
            "Before it is scaled down to train.max_gradient_norm.",
            column("gradient_norm"),
            "step",
            "norm",
        ),
    ]


def corpus(results: list[Result]) -> list[Figure]:
    """What was read; runs of the same tokens share a line."""
    different = corpora(results)
    if not different:
        return []

    def ranks(axes: Axes) -> None:
        for number, one in different:
            axes.plot(one.ranks["rank"], one.ranks["count"], color=colour(number), linewidth=1.5)
        axes.set(xscale="log", yscale="log")
        plain_numbers(axes.xaxis, axes.yaxis)

    def lengths(axes: Axes) -> None:
        parts = [(n, one.training, one.held_out.tokens.to_numpy()) for n, one in different]
        longest = max(part.max() for _, *both in parts for part in both)
        edges = np.geomspace(1, longest + 1, 31)
        for number, *both in parts:
            for part, line in zip(both, ("-", "--"), strict=True):
                share = 100 * np.histogram(part.clip(1), edges)[0] / len(part)
                axes.stairs(share, edges, color=colour(number), linewidth=1.4, linestyle=line)
        axes.set(xscale="log")
        plain_numbers(axes.xaxis)

    return [
        figure(
            "Tokens by rank",
            "How often the token of each rank occurs in the whole corpus.",
            ranks,
            "rank",
            "how often",
        ),
        figure(
            "Documents by length",
            "Line: the training part. Dashes: the held-out part.",
            lengths,
            "tokens",
            "documents (%)",
        ),
    ]


def corpora(results: list[Result]) -> list[tuple[int, Corpus]]:
    """Each corpus once, with the number of the first run of it."""
    there = [(n, r.corpus) for n, r in enumerate(results) if r.corpus]
    sums = [one.checksum for _, one in there]
    return [pair for n, pair in enumerate(there) if pair[1].checksum not in sums[:n]]


def losses(results: list[Result]) -> list[Figure]:
    """Where on the held-out part the loss is high, and what dropout does to it."""
    measured = [(n, r.each_token) for n, r in enumerate(results) if r.each_token is not None]
    if not measured:
        return [_on_and_off(results)]
    return [
        _by_position(measured),
        _by_frequency(measured),
        _on_and_off(results),
        _calibration(measured),
    ]


def _on_and_off(results: list[Result]) -> Figure:
    def on_and_off(axes: Axes) -> None:
        for number, result in enumerate(results):
            documents = result.run.documents[result.run.documents.tokens > 0]
            off = documents.nats / documents.tokens
            gap = documents.nats_dropout_on / documents.tokens - off
            look = style(number, "") | {"markersize": 3.5, "alpha": 0.6}
            axes.plot(off, gap, **look)
        axes.axhline(0, color=FAINT, linewidth=1)

    return figure(
        "Dropout on and off",
        "A point a document: its loss with dropout off, and how much higher (above 0) it is "
        "with dropout left on.",
        on_and_off,
        "loss, dropout off (nats a token)",
        "on minus off (nats a token)",
    )


def _by_position(measured: Measured) -> Figure:
    edges = _edges(int(max(table.before.max() for _, table in measured)))

    def position(axes: Axes) -> None:
        for number, table in measured:
            mean = table.groupby(np.searchsorted(edges, table.before, side="right"))
            axes.plot(1 + mean.before.mean(), mean.loss.mean(), **style(number))
        axes.set_xscale("log", base=2)
        plain_numbers(axes.xaxis)

    return figure(
        "Loss by position in the context",
        "The mean over tokens that could see as many tokens before them as the axis says, "
        "themselves counted: 1 is the first of a document. What stands there differs, too.",
        position,
        "position",
        "loss (nats a token)",
    )


def _by_frequency(measured: Measured) -> Figure:
    names, edges = _frequencies(max(int(table.seen.max()) for _, table in measured))

    def frequency(axes: Axes) -> None:
        for number, table in measured:
            mean = table.groupby(np.searchsorted(edges, table.seen, side="right")).loss.mean()
            axes.plot(mean.index, mean, **style(number))
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, len(names) - 0.5)

    return figure(
        "Loss by frequency of the token",
        "The mean over held-out tokens that occur so often in what was trained on.",
        frequency,
        "times in what was trained on",
        "loss (nats a token)",
    )


def _calibration(measured: Measured) -> Figure:
    def calibration(axes: Axes) -> None:
        for number, table in measured:
            bins = table.groupby(pd.qcut(table.likeliest, BINS, duplicates="drop"), observed=True)
            axes.plot(bins.likeliest.mean(), bins.right.mean(), **style(number))
        end = max(axes.get_xlim()[1], axes.get_ylim()[1])
        axes.plot([0, end], [0, end], color=FAINT, linewidth=1)

    return figure(
        "Calibration",
        "The tokens in ten groups of one size, by the probability of the token that the "
        "model held likeliest; and how often that token came. On the line they are equal; "
        "below it the model is too sure.",
        calibration,
        "probability of the likeliest token",
        "how often it came",
    )


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
    edges = [10**power for power in range(max(3, len(str(most))))]
    names = [
        "1 to 9",
        "10 to\n99",
        *(f"{low:,} to\n{high - 1:,}" for low, high in pairwise(edges[2:])),
    ]
    return ["never", *names, f"{edges[-1]:,}\nor more"], edges
