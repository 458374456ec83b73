"""How far long work is: a bar on a terminal, plain lines elsewhere."""

import math
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

from dropgpt.machine import torchrun

UNSEEN = 2  # seconds that nobody needs a bar for: a `delay`
# From here on a count is shown as 361k, and on a terminal as a percentage alone; below, as it is.
MANY = 10_000


def progress(
    title: str,
    unit: str,
    log_interval: float,
    total: int | None = None,
    iterable: Iterable[Any] | None = None,
    initial: int = 0,
    delay: float = 0,
) -> tqdm:
    """A tqdm on standard error; where that is no terminal, a line every `log_interval` seconds.

    `unit` is the plural of what is counted. What ends within `delay` seconds shows nothing. Of
    several processes only the first one tells.
    """
    many = total is not None and total >= MANY
    shared: dict[str, Any] = {
        "iterable": iterable,
        "desc": title,
        "total": total,
        "initial": initial,
        "delay": delay,
        "unit": unit,
        "unit_scale": many,
        "disable": not torchrun.first(),
    }
    if sys.stderr.isatty():  # as tqdm has it by default, but for the speed
        count = "" if many else "{n_fmt}/{total_fmt} "  # or 80 columns would cut the loss off
        known = f"{{l_bar}}{{bar}}| {count}[{{elapsed}}<{{remaining}}, {{speed}}{{postfix}}]"
        unknown = "{desc}: {n_fmt} {unit} [{elapsed}, {speed}{postfix}]"
        return _Bar(**shared, bar_format=unknown if total is None else known, dynamic_ncols=True)
    share = (
        "{n_fmt} {unit}" if total is None else "{n_fmt} of {total_fmt} {unit}, {percentage:.0f}%"
    )
    left = "" if total is None else ", {remaining} left"
    return _Bar(
        **shared,
        file=_Lines(sys.stderr),
        mininterval=log_interval,
        maxinterval=log_interval,
        miniters=1,
        bar_format=f"{{desc}}: {share}, {{elapsed}} elapsed, {{speed}}{left}{{postfix}}",
    )


class _Bar(tqdm):  # type: ignore[misc]
    """A tqdm that knows {speed}; to add to `format_dict` is tqdm's way to have more to show."""

    @property
    def format_dict(self) -> dict[str, Any]:
        known = super().format_dict
        elapsed = known["elapsed"] or math.inf
        rate = known["rate"] or (known["n"] - known["initial"]) / elapsed
        return known | {"speed": _speed(rate, known["unit"])}


def _speed(rate: float, unit: str) -> str:
    """Of `rate` a second; where that is less than one, the seconds that each takes."""
    if not rate:
        return f"? {unit}/s"
    if rate < 1:
        return f"{tqdm.format_sizeof(1 / rate)} s a {unit.removesuffix('s')}"
    return f"{tqdm.format_sizeof(rate)} {unit}/s"


class _Lines:
    """Ends a line where tqdm would go back to its start."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        if line := text.strip("\r\n "):
            self.stream.write(line + "\n")

    def flush(self) -> None:
        self.stream.flush()
