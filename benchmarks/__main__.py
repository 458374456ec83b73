"""Ours and what a user would pick instead, side by side: `make bench`.

Each measurement is a process of its own, ours and the peer's in turn. Name rows to run only those.
"""

import json
import os
import statistics
import subprocess
import sys
from typing import NamedTuple

from benchmarks.work import device_and_dtype
from dropgpt.hardware import environment

ROUNDS = 3


class Row(NamedTuple):
    title: str
    unit: str
    ours: str
    peer: str


TOKENS, TEXT = "tokens/s", "MB/s"
ROWS = [
    Row("train, transformers", TOKENS, "train", "train_transformers"),
    Row("train, transformers compiled", TOKENS, "train", "train_transformers compiled"),
    Row("train, dropout 0.1 beside 0", TOKENS, "train", "train without dropout"),
    Row("evaluate, transformers", TOKENS, "evaluate", "evaluate_transformers"),
    Row("generate, transformers", TOKENS, "generate", "generate_transformers"),
    Row("tokenize, tiktoken", TEXT, "tokenize", "tokenize_tiktoken"),
    Row("tokenize, ten times the documents beside once", TEXT, "tokenize ten times", "tokenize"),
    Row("collect, ten times the documents beside once", TEXT, "documents ten times", "documents"),
]
if "NANOGPT" in os.environ:
    ROWS += [
        Row("train, nanoGPT", TOKENS, "train", "train_nanogpt"),
        Row("train, nanoGPT compiled", TOKENS, "train", "train_nanogpt compiled"),
    ]


def measure(work: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.work", work], capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def line(row: Row) -> str:
    ours, peer = [], []
    for _ in range(ROUNDS):
        ours.append(measure(row.ours))
        peer.append(measure(row.peer))
    ratios = [a["rate"] / b["rate"] for a, b in zip(ours, peer, strict=True)]
    middle, least, most = statistics.median(ratios), min(ratios), max(ratios)
    rates, peaks = (
        [statistics.median(one[key] for one in side) for side in (ours, peer)]
        for key in ("rate", "peak_mb")
    )
    return (
        f"| {row.title} | {rates[0]:,.4g} {row.unit} | {rates[1]:,.4g} | "
        f"{middle:.2f} ({least:.2f} to {most:.2f}) | {peaks[0]:,.0f} MB | {peaks[1]:,.0f} |"
    )


def main() -> None:
    print(json.dumps(environment(*device_and_dtype())), "\n")
    print("| work | ours | peer | ratio of the rates | peak memory | peer |")
    print("|---|---|---|---|---|---|")
    for row in ROWS:
        if not sys.argv[1:] or any(word in row.title for word in sys.argv[1:]):
            print(line(row), flush=True)


if __name__ == "__main__":
    main()
