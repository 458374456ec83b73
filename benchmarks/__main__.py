"""Ours and what a user would pick instead, side by side: `make bench`.

Each measurement is a process of its own, ours and the peer's in turn. Name rows to run only those.
"""

import json
import os
import statistics
import subprocess
import sys
from typing import NamedTuple

import torch

from benchmarks.setting import device_and_dtype
from benchmarks.training import flop_of
from benchmarks.whole_stages import STAGES
from benchmarks.work import TRAININGS
from dropgpt.machine.hardware import environment, peak_flops

ROUNDS = 3


class Row(NamedTuple):
    title: str
    unit: str
    ours: str
    peer: str | None = None


TOKENS, TEXT = "tokens/s", "MB/s"
NANOGPT = ["nanoGPT", "nanoGPT compiled"] if "NANOGPT" in os.environ else []
ROWS = [
    Row(f"{title}, {peer}", TOKENS, name, f"{name} {peer}")
    for title, name in (
        ("train 64 x 256", "large"),
        ("train the default step", "default"),
        ("train the small step", "small"),
    )
    for peer in ["transformers", "transformers compiled"] * (name == "large") + NANOGPT
]
ROWS += [Row("train 64 x 256, dropout 0.1 beside 0", TOKENS, "large", "large without dropout")]
ROWS += [
    Row(
        f"train the {name} step, beside {number} beside alone",
        TOKENS,
        f"{name} beside {number}",
        name,
    )
    for name in ("default", "small")
    for number in ("one", "two")
]
if torch.cuda.is_available():
    ROWS += [
        Row(f"train GPT-2 small, {peer}", TOKENS, "GPT-2 small", f"GPT-2 small {peer}")
        for peer in ["without dropout", "by AdamW", "transformers compiled"]
    ]
    ROWS += [
        Row(f"train {name}, {peer}", TOKENS, name, f"GPT-2 small {size}{peer}")
        for name, size in (("GPT-2 small by AdamW", ""), ("GPT-2 small at 1,024", "at 1,024 "))
        for peer in NANOGPT
    ]
    ROWS += [
        Row(
            "evaluate GPT-2 small, transformers",
            TOKENS,
            "GPT-2 small evaluate",
            "GPT-2 small evaluate_transformers",
        ),
        Row("start: train to the first step, GPT-2 small", "s", "GPT-2 small first step"),
    ]
ROWS += [
    Row("evaluate, transformers", TOKENS, "evaluate", "evaluate_transformers"),
    Row("generate, transformers", TOKENS, "generate", "generate_transformers"),
    Row("tokenize, tiktoken", TEXT, "tokenize stage", "tokenize_tiktoken"),
    Row(
        "tokenize, tiktoken, ten times the text",
        TEXT,
        "tokenize stage ten times",
        "tokenize_tiktoken ten times",
    ),
]
ROWS += [
    Row(
        f"growth: {stage}, ten times the text beside once",
        TOKENS if stage == "train" else TEXT,
        f"{stage} stage ten times",
        f"{stage} stage",
    )
    for stage in STAGES[:-1]
]
ROWS += [Row(f"start: {stage}", "s", f"start {stage}") for stage in STAGES]
ROWS += [Row("start: `dvc repro` with nothing to do", "s", "repro with nothing to do")]


def measure(work: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.work", work], capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def line(row: Row, peak: float) -> str:
    works = [row.ours] if row.peer is None else [row.ours, row.peer]
    rounds = [[measure(work) for work in works] for _ in range(ROUNDS)]
    medians, peaks = (
        [statistics.median(one[key] for one in side) for side in zip(*rounds, strict=True)]
        for key in ("found", "peak_mb")
    )
    if row.peer is None:
        return f"| {row.title} | {medians[0]:.2f} {row.unit} | | | | |"
    ratios = [ours["found"] / peer["found"] for ours, peer in rounds]
    middle, least, most = statistics.median(ratios), min(ratios), max(ratios)
    share = ""
    if row.ours in TRAININGS:
        share = f" ({medians[0] * flop_of(TRAININGS[row.ours]) / peak:.0%})"
    return (
        f"| {row.title} | {figure(medians[0])} {row.unit}{share} | {figure(medians[1])} | "
        f"{middle:.2f} ({least:.2f} to {most:.2f}) | {peaks[0]:,.0f} MB | {peaks[1]:,.0f} |"
    )


def figure(rate: float) -> str:
    """Four digits, or all before the point."""
    return f"{rate:,.0f}" if rate >= 1000 else f"{rate:.4g}"


def main() -> None:
    words = sys.argv[1:]
    rows = [row for row in ROWS if not words or any(word in row.title for word in words)]
    if not rows:
        titles = "\n".join(f"  {row.title}" for row in ROWS)
        sys.exit(f"error: no row has {' or '.join(words)} in its title; there are:\n{titles}")
    device_and_type = device_and_dtype()
    print(json.dumps(environment(*device_and_type)), "\n")
    flop = measure("matrix products")["found"]
    print(f"A large matrix product runs at {flop / 1e9:,.0f} GFLOP/s, which is:\n")
    for name, what in TRAININGS.items():
        print(f"- {flop / flop_of(what):,.0f} tokens/s of {name}")
    known = peak_flops(*device_and_type)
    peak = known or flop
    source = "the maker's figure" if known else "that of the large product"
    print(f"\nIn brackets the share of {peak / 1e9:,.0f} GFLOP/s, {source}.\n")
    print("| work | ours | peer | ratio of the rates | peak memory | peer |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(line(row, peak), flush=True)


if __name__ == "__main__":
    main()
