"""The same work, ours and a peer's; each piece gives its rate, or seconds where it says so.

`python -m benchmarks.work NAME` does one of them in a process of its own.
"""

import json
import resource
import sys
from collections.abc import Callable
from functools import partial

from benchmarks.models import (
    evaluate,
    evaluate_transformers,
    generate,
    generate_transformers,
    train,
    train_nanogpt,
    train_transformers,
)
from benchmarks.whole_stages import (
    STAGES,
    repro_with_nothing_to_do,
    start,
    tokenize_tiktoken,
    whole_stage,
)

WORK: dict[str, Callable[[], float]] = {
    "train": lambda: train(0.1),
    "train without dropout": lambda: train(0.0),
    "train_transformers": lambda: train_transformers(False),
    "train_transformers compiled": lambda: train_transformers(True),
    "train_nanogpt": lambda: train_nanogpt(False),
    "train_nanogpt compiled": lambda: train_nanogpt(True),
    "evaluate": evaluate,
    "evaluate_transformers": evaluate_transformers,
    "generate": generate,
    "generate_transformers": generate_transformers,
    "tokenize_tiktoken": lambda: tokenize_tiktoken(1),
    "tokenize_tiktoken ten times": lambda: tokenize_tiktoken(10),
    "repro with nothing to do": repro_with_nothing_to_do,
}
WORK |= {f"start {stage}": partial(start, stage) for stage in STAGES}
for stage in STAGES[:-1]:  # the last reads no documents
    WORK[f"{stage} stage"] = partial(whole_stage, stage)
    WORK[f"{stage} stage ten times"] = partial(whole_stage, stage, 10)

if __name__ == "__main__":
    found = WORK[sys.argv[1]]()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux
    print(json.dumps({"found": found, "peak_mb": peak * 1024 / 1e6}))
