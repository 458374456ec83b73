"""All that a revision holds of a run, read where DVC keeps it.

Only what belongs together is taken: curves, samples and a model that are not of the model that
was evaluated are left out, with a line that says so.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from safetensors import safe_open

from dropgpt.comparison.experiments import Run, evaluated
from dropgpt.errors import UserError
from dropgpt.machine import kept, provenance
from dropgpt.machine.files import SUMS, check_seal, sha256
from dropgpt.machine.progress import UNSEEN, progress
from dropgpt.machine.provenance import FILE, Chain
from dropgpt.machine.repository import Revision, changed, opened, outputs
from dropgpt.params import Evaluate, Runtime
from dropgpt.tokens import tensor
from dropgpt.tokens.encoding import decode_documents
from dropgpt.tokens.statistics import count_tokens, rank_frequency
from dropgpt.tokens.tensor import TokenTensor
from dropgpt.tokens.vocabulary import gpt2_encoding

EXCERPT = 300  # characters of a document's text
WEIGHTS = "model.safetensors"  # in models/gpt
YARDSTICKS = ("trigram", "unigram")  # in the summary of a run

Shown = Callable[[Iterable[pd.DataFrame], int], Iterable[pd.DataFrame]]


@dataclass(frozen=True)
class Corpus:
    """The tokens that a run was trained and measured on.

    checksum  by which two corpora are told apart
    ranks     of the tokens by how often they occur; see `rank_frequency`
    training  the tokens of each document, (documents,)
    held_out  a row of each held-out document; see `TokenTensor`
    excerpts  how each held-out document begins
    """

    checksum: str
    ranks: pd.DataFrame
    training: npt.NDArray[np.int64]
    held_out: pd.DataFrame
    excerpts: list[str]


@dataclass(frozen=True)
class Result:
    """What a revision holds; None is what it lacks.

    steps         of metrics/training.csv
    validations   of metrics/validation.csv
    each_token    of some of the held-out tokens; see `each_token`
    parameters    how many the model has
    generations   of samples/samples.json
    chain         what made all of this, the samples too
    notes         what to know before reading the page, in lines
    """

    run: Run
    steps: pd.DataFrame | None
    validations: pd.DataFrame | None
    corpus: Corpus | None
    each_token: pd.DataFrame | None
    parameters: int | None
    generations: list[dict[str, Any]] | None
    chain: Chain
    notes: list[str]

    @property
    def name(self) -> str:
        return self.run.name


@dataclass(frozen=True)
class _Files:
    """Those of a revision; what is not there, nor in DVC's cache, is None.

    temporary  where copies may lie
    notes      says what is damaged, in lines
    """

    revision: str
    files: Revision
    temporary: Path
    notes: list[str]

    def note(self, line: str) -> None:
        self.notes.append(f"{self.revision}: {line}")

    def folder(self, name: str, stage: str) -> Path | None:
        """What `stage` has made, where it is at hand; of what lies elsewhere, a copy."""
        if self.revision == "workspace" and Path(name).is_dir():
            return Path(name)
        there = self.temporary / name
        there.parent.mkdir(exist_ok=True)
        try:
            self.files.copy(name, there)
            check_seal(there, stage, [])
        except FileNotFoundError:
            return None
        except UserError:  # it would name the copy, of which nobody knows
            self.note(f"{name} is damaged in DVC's cache: docs/recovery.md says how to mend it")
            return None
        return there

    def table(self, name: str) -> pd.DataFrame | None:
        with suppress(FileNotFoundError):
            return pd.read_csv(BytesIO(self.files.read(name)))
        return None

    def as_locked(self, name: str) -> bool:
        """Whether a file that git keeps is the one that dvc.lock names, or is not there."""
        with suppress(FileNotFoundError):
            md5 = hashlib.md5(self.files.read(name), usedforsecurity=False).hexdigest()
            return outputs(self.files.read("dvc.lock").decode()).get(name, md5) == md5
        return True

    def json(self, name: str) -> Any:
        with suppress(FileNotFoundError):
            return json.loads(self.files.read(name))
        return None


def read(run: Run, runtime: Runtime) -> Result:
    """What else there is of a run, in the revision in which it was found.

    What is measured for it is kept for the next time.
    """
    notes = list(run.notes)
    with opened(run.name) as opened_files, TemporaryDirectory() as temporary:
        files = _Files(run.name, opened_files, Path(temporary), notes)
        tokens, corpus = _read_tokens(files, run)
        model = _read_model(files, run)
        steps, validations = _read_curves(files) if model else (None, None)
        generations, made_by = _read_samples(files, run)
        return Result(
            run=run,
            steps=steps,
            validations=validations,
            corpus=corpus,
            each_token=_kept_each_token(files, run, model, tokens, runtime)
            if model and tokens
            else None,
            parameters=_parameters(model / WEIGHTS) if model else None,
            generations=generations,
            chain=run.chain | made_by,
            notes=notes,
        )


def _read_tokens(files: _Files, run: Run) -> tuple[TokenTensor | None, Corpus | None]:
    """Those that the run was measured on."""
    checksum = run.chain["evaluate"]["inputs"]["tokens"]
    folder = files.folder("data/tokens", "tokenize")
    if folder is None or not _is(folder / SUMS, checksum):
        files.note("data/tokens is not at hand, or is not what was measured on")
        return None, None
    tokens = tensor.read(folder)
    lengths = pd.concat(tensor.tables(folder, "tokens")).tokens
    return tokens, _corpus(tokens, lengths, checksum)


def _read_model(files: _Files, run: Run) -> Path | None:
    """The folder of the model that was measured, if the stage train has made it."""
    if (elsewhere := evaluated(run.chain).model) is not None:
        files.note(f"{elsewhere} was made elsewhere: it has no curves here")
        return None
    folder = files.folder("models/gpt", "train")
    if folder is None or not _is(folder / WEIGHTS, run.chain["evaluate"]["inputs"]["weights"]):
        files.note("models/gpt is not at hand, or is not what was measured")
        return None
    check_seal(folder, "train", [WEIGHTS, "config.json"])
    return folder


def _read_curves(files: _Files) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """Those of the training: by step, and of its validations."""
    steps, validations = names = ("metrics/training.csv", "metrics/validation.csv")
    if files.revision == "workspace":  # git brings metrics/ of another commit alone
        mixed = len(changed("models/gpt", steps)) == 1
        why = "as after `git checkout`: `dvc checkout` brings its model"
    else:
        mixed = not all(map(files.as_locked, names))
        why = "as where metrics/ was not committed"
    if mixed:
        files.note(f"models/gpt is not of the training in {steps}, {why}")
        return None, None
    return files.table(steps), files.table(validations)


def _read_samples(files: _Files, run: Run) -> tuple[list[dict[str, Any]] | None, Chain]:
    """What the model that was measured has written, and what made that."""
    made_by: Chain = files.json(f"samples/{FILE}") or {}
    weights = run.chain["evaluate"]["inputs"]["weights"]
    if "sample" not in made_by or made_by["sample"]["inputs"]["weights"] != weights:
        files.note("samples is not at hand, or of another model")
        return None, {}
    return files.json("samples/samples.json"), {"sample": made_by["sample"]}


def _kept_each_token(
    files: _Files, run: Run, model: Path, tokens: TokenTensor, runtime: Runtime
) -> pd.DataFrame:
    """As `_each_token` has it, measured if it was not before."""
    code = provenance.code("evaluate")
    if run.chain["evaluate"]["code"] != code:
        files.note(
            "what is told of single tokens, as the calibration, is by the code that lies here, and "
            "other code has measured the loss"
        )
    evaluate = evaluated(run.chain)
    train_tokens = run.chain["train"]["params"]["train"]["tokens"]

    def shown(found: Iterable[pd.DataFrame], number: int) -> Iterable[pd.DataFrame]:
        title = f"report: {run.name}"
        return progress(title, "windows", runtime.log_interval, number, found, delay=UNSEEN)

    return kept.table(
        {
            "model": sha256(model / SUMS),
            "tokens": run.chain["evaluate"]["inputs"]["tokens"],
            "evaluate": evaluate.model_dump(),
            "train_tokens": train_tokens,
            # Another processor changes the last bits, which no picture shows.
            "device": runtime.device,
            "code": code,
            "torch": version("torch"),
        },
        partial(_each_token, model, tokens, evaluate, train_tokens, runtime, shown),
    )


def _each_token(
    model: Path,
    tokens: TokenTensor,
    evaluate: Evaluate,
    train_tokens: int | None,
    runtime: Runtime,
    shown: Shown,
) -> pd.DataFrame:
    # Imported where something is measured: torch takes longer than the page without it.
    from dropgpt.machine.hardware import prepare
    from dropgpt.machine.memory import enough_memory
    from dropgpt.model import artifact
    from dropgpt.reporting.each_token import each_token

    device = prepare(runtime.device, runtime.threads)
    with enough_memory("report", "set runtime.device to cpu for it"):
        gpt = artifact.load(model).to(device)
        return each_token(gpt, tokens, evaluate, train_tokens, shown=shown)


def _parameters(weights: Path) -> int:
    """How many the model has, as the head of its file tells."""
    with safe_open(weights, "numpy") as file:
        shapes = [file.get_slice(name).get_shape() for name in list(file.keys())]
    return sum(map(math.prod, shapes))


def _is(file: Path, checksum: str) -> bool:
    """Whether a file is there, and what it was."""
    return file.is_file() and sha256(file) == checksum


_encoding = cache(gpt2_encoding)  # half a second, and most runs have the same


def _corpus(tokens: TokenTensor, lengths: pd.Series, checksum: str) -> Corpus:
    encoding = _encoding(tokens.n_vocab)
    held_out = tokens.held_out_documents
    return Corpus(
        checksum,
        rank_frequency(count_tokens(tokens.tokens, tokens.n_vocab), encoding),
        lengths[: -len(held_out)].to_numpy(),
        held_out,
        [_begin(text) for text in decode_documents(tokens.held_out, held_out, encoding)],
    )


def _begin(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= EXCERPT else words[:EXCERPT].rsplit(" ", 1)[0] + " …"
