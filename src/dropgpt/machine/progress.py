"""How far long work is: a bar on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TextIO

from tqdm import tqdm


def progress(
    title: str,
    unit: str,
    log_interval: float,
    total: int | None = None,
    iterable: Iterable[Any] | None = None,
    initial: int = 0,
) -> "tqdm[Any]":
    """A tqdm on standard error; where that is no terminal, a line every `log_interval` seconds."""
    shared: dict[str, Any] = {
        "iterable": iterable,
        "desc": title,
        "total": total,
        "initial": initial,
        "unit": f" {unit}",
        "unit_scale": total is not None,
    }
    if sys.stderr.isatty():
        return tqdm(**shared, dynamic_ncols=True)
    share = "{n_fmt}{unit}" if total is None else "{n_fmt} of {total_fmt}{unit}, {percentage:.0f}%"
    left = "" if total is None else ", {remaining} left"
    return tqdm(
        **shared,
        file=_Lines(sys.stderr),
        mininterval=log_interval,
        maxinterval=log_interval,
        miniters=1,
        bar_format=f"{{desc}}: {share}, {{elapsed}} elapsed, {{rate_fmt}}{left}{{postfix}}",
    )


class _Lines:
    """Ends a line where tqdm would go back to its start."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        # Nobody may be there to read any more; that is no reason for the work to end.
        with suppress(OSError):
            if line := text.strip("\r\n "):
                self.stream.write(line + "\n")

    def flush(self) -> None:
        with suppress(OSError):
            self.stream.flush()
