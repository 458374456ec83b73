"""The same work, ours and a peer's; each piece gives its rate, or seconds where it says so.

`python -m benchmarks.work NAME` does one of them in a process of its own.
"""

import json
import resource
import sys
from collections.abc import Callable
from functools import partial

import torch

from benchmarks.models import (
    evaluate,
    evaluate_transformers,
    generate,
    generate_transformers,
)
from benchmarks.training import (
    DEFAULT,
    GPT2_SMALL,
    GPT2_SMALL_1024,
    GPT2_SMALL_ADAMW,
    LARGE,
    SMALL,
    Training,
    beside,
    matrix_rate,
    train,
    train_nanogpt,
    train_transformers,
)
from benchmarks.whole_stages import (
    STAGES,
    first_step,
    repro_with_nothing_to_do,
    start,
    tokenize_tiktoken,
    whole_stage,
)

TRAININGS = {
    "large": LARGE,
    "default": DEFAULT,
    "small": SMALL,
    "GPT-2 small": GPT2_SMALL,
    "GPT-2 small by AdamW": GPT2_SMALL_ADAMW,
    "GPT-2 small at 1,024": GPT2_SMALL_1024,
}


def train_beside(what: Training, programs: int) -> float:
    with beside(programs):
        return train(what)


WORK: dict[str, Callable[[], float]] = {
    "evaluate": evaluate,
    "evaluate_transformers": evaluate_transformers,
    "generate": generate,
    "generate_transformers": generate_transformers,
    "matrix products": matrix_rate,
    "tokenize_tiktoken": lambda: tokenize_tiktoken(1),
    "tokenize_tiktoken ten times": lambda: tokenize_tiktoken(10),
    "GPT-2 small evaluate": partial(evaluate, GPT2_SMALL.size),
    "GPT-2 small evaluate_transformers": partial(evaluate_transformers, GPT2_SMALL.size),
    "GPT-2 small first step": partial(first_step, GPT2_SMALL),
    "repro with nothing to do": repro_with_nothing_to_do,
}
for name, what in TRAININGS.items():
    WORK |= {
        name: partial(train, what),
        f"{name} without dropout": partial(train, what._replace(dropout=0.0)),
        f"{name} beside one": partial(train_beside, what, 1),
        f"{name} beside two": partial(train_beside, what, 2),
        f"{name} transformers": partial(train_transformers, what, False),
        f"{name} transformers compiled": partial(train_transformers, what, True),
        f"{name} nanoGPT": partial(train_nanogpt, what, False),
        f"{name} nanoGPT compiled": partial(train_nanogpt, what, True),
    }
WORK |= {f"start {stage}": partial(start, stage) for stage in STAGES}
for stage in STAGES[:-1]:  # the last reads no documents
    WORK[f"{stage} stage"] = partial(whole_stage, stage)
    WORK[f"{stage} stage ten times"] = partial(whole_stage, stage, 10)

if __name__ == "__main__":
    found = WORK[sys.argv[1]]()
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated()
    print(json.dumps({"found": found, "peak_mb": peak / 1e6}))
