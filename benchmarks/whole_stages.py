"""The stages whole, over the default corpus or many times as much of it; and tiktoken."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ruamel.yaml import YAML

from benchmarks.timing import timed
from benchmarks.training import Training, model_params
from dropgpt.corpus import wikipedia
from dropgpt.params import load
from dropgpt.tokens.vocabulary import gpt2_encoding

STAGES = ("download_fineweb", "tokenize", "train", "evaluate", "sample")
SIZE = {"n_layer": 1, "n_head": 1, "n_embd": 16}  # a model that is no great part of the work
STEPS = 20
PROJECT = Path(__file__).parent.parent
# Leaves where the stage would show its first progress: all is read by then, nothing is done.
START = """
import runpy, sys
from dropgpt.machine import progress
progress.progress = lambda *_, **__: sys.exit()
runpy.run_module("stages.{}", run_name="__main__")
"""
# Leaves where the first step's gradients have been asked for.
FIRST_STEP = """
import runpy, sys
from dropgpt.training import loop
loop._Loop.look_up = lambda self, *_: sys.exit(self.curves.read())
runpy.run_module("stages.train", run_name="__main__")
"""


@contextmanager
def project(**changes: dict[str, Any]) -> Iterator[None]:
    """In a folder of its own, with the project's stages and its parameters with `changes`."""
    values = load(Path("params.yaml")).model_dump()
    for section, change in changes.items():
        values[section] |= change
    with TemporaryDirectory() as folder, chdir(folder):
        for name in ("src", "stages", "dvc.yaml"):
            Path(name).symlink_to(PROJECT / name)
        YAML().dump(values, Path("params.yaml"))
        yield


@contextmanager
def workspace(
    stage: str, times: int, model: dict[str, Any] = SIZE, **train: Any
) -> Iterator[float]:
    """A folder in which the stages before `stage` have run; the megabytes of text there."""
    size = 0
    with project(
        data={"source": "files", "files": "corpora/*.jsonl", "deduplicate": False},
        model=model,
        train={"steps": STEPS, "validation_interval": STEPS} | train,
    ):
        Path("corpora").mkdir()
        with Path("corpora/own.jsonl").open("w") as file:
            for found in [*wikipedia.documents()] * times:
                file.write(json.dumps({"text": found.text}) + "\n")
                size += len(found.text.encode())
        for earlier in STAGES[: STAGES.index(stage)]:
            subprocess.run([sys.executable, "-m", f"stages.{earlier}"], check=True)
        yield size / 1e6


def whole_stage(stage: str, times: int = 1) -> float:
    """Megabytes of the corpus's text a second; of STEPS steps of training, tokens a second."""
    run = getattr(import_module(f"stages.{stage}"), stage)
    with workspace(stage, times) as size:
        params = load(Path("params.yaml"))
        with timed() as timer:
            run(params)
    if stage == "train":
        return STEPS * params.train.batch_size * params.model.n_ctx / timer.seconds
    return size / timer.seconds


def start(stage: str) -> float:
    """Seconds that pass before a stage works."""
    with workspace(stage, 1), timed() as timer:
        subprocess.run([sys.executable, "-c", START.format(stage)], check=True)
    return timer.seconds


def first_step(what: Training) -> float:
    """Seconds from the start of `train` to the loss of its first step, if it has run before."""
    model, train = model_params(what).model_dump(), {"batch_size": what.batch_size}
    with workspace("train", 1, model, **train):
        for _ in range(2):
            with timed() as timer:
                subprocess.run([sys.executable, "-c", FIRST_STEP], check=True)
    return timer.seconds


def repro_with_nothing_to_do() -> float:
    """Seconds of the second `dvc repro`; the first may be long."""
    for _ in range(2):
        with timed() as timer:
            subprocess.run([sys.executable, "-m", "dvc", "repro"], check=True)
    return timer.seconds


def tokenize_tiktoken(times: int, threads: int | None = None) -> float:
    """Without the reading and writing, and all texts at once."""
    texts = [found.text for found in wikipedia.documents()] * times
    with timed() as timer:
        encoding = gpt2_encoding()
        encoding.encode_ordinary_batch(texts, num_threads=threads or os.cpu_count() or 1)
    return sum(len(text.encode()) for text in texts) / 1e6 / timer.seconds
