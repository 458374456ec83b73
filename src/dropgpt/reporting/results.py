"""All that a revision holds of a run, read where DVC keeps it.

Only what belongs together is taken: curves, samples and a model that are not of the model that
was evaluated are left out, with a line that says so.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from dvc.api import DVCFileSystem
from dvc_data.index import DataIndexDirError

from dropgpt.comparison import experiments
from dropgpt.comparison.experiments import Run
from dropgpt.machine.files import SUMS, sha256
from dropgpt.machine.provenance import FILE, Chain
from dropgpt.model import artifact
from dropgpt.params import Evaluate
from dropgpt.reporting.each_token import each_token
from dropgpt.tokens import tensor
from dropgpt.tokens.tensor import TokenTensor
from dropgpt.tokens.vocabulary import gpt2_encoding

EXCERPT = 300  # characters of a document's text

Value = TypeVar("Value")


@dataclass(frozen=True)
class Corpus:
    """The tokens that a run was trained and measured on.

    checksum    by which two corpora are told apart
    ranks       of the tokens by how often they occur; see `tensor.rank_frequency`
    training    the tokens of each document, (documents,)
    held_out    the same of the held-out ones
    excerpts    how each held-out document begins
    """

    checksum: str
    ranks: pd.DataFrame
    training: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.int64]
    excerpts: list[str]


@dataclass(frozen=True)
class Result:
    """What a revision holds; None is what it lacks.

    metrics       of metrics/evaluate.json
    steps         of metrics/training.csv
    validations   of metrics/validation.csv
    each_token    of some of the held-out tokens; see `each_token`
    parameters    how many the model has
    generations   of samples/samples.json
    chain         what made all of this, the samples too
    notes         what to know before reading the page, in lines
    """

    run: Run
    metrics: dict[str, Any] | None
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

    @property
    def evaluate(self) -> Evaluate:
        """How it was measured."""
        return Evaluate.model_validate(self.run.chain["evaluate"]["params"]["evaluate"])


def read(revision: str, device: torch.device) -> Result:
    """The run of a revision, or of the "workspace", with what a look at its model tells.

    Raises UserError as `experiments.read` does.
    """
    run = experiments.read(revision)
    inputs = run.chain["evaluate"]["inputs"]
    notes = list(run.notes)

    def left_out(what: str, why: str) -> None:
        notes.append(f"{run.name}: {what} left out: {why}")

    with experiments.opened(revision) as (files, root), TemporaryDirectory() as temporary:

        def fetched(folder: str) -> Path | None:
            """A copy of a folder, where it is at hand."""
            there = Path(temporary, folder)
            there.parent.mkdir(exist_ok=True)
            _if_there(lambda: files.get(str(root / folder), str(there), recursive=True))
            return there if there.is_dir() else None

        metrics = _if_there(lambda: json.loads(files.read_text(root / "metrics/evaluate.json")))
        if metrics and not np.isclose(metrics["loss"], _loss(run), rtol=1e-9):
            left_out("metrics/evaluate.json is", "it is not of data/evaluation")
            metrics = None

        tokens = corpus = None
        if (folder := fetched("data/tokens")) and sha256(folder / SUMS) == inputs["tokens"]:
            tokens = tensor.read(folder)
            corpus = _corpus(tokens, inputs["tokens"])
        else:
            left_out("the corpus's pictures are", "data/tokens is not at hand, or another one")

        steps = validations = table = parameters = None
        evaluate = Evaluate.model_validate(run.chain["evaluate"]["params"]["evaluate"])
        if evaluate.model is not None:
            left_out("the curves are", f"{evaluate.model} was made elsewhere")
        elif (folder := fetched("models/gpt")) and _weights(folder) == inputs["weights"]:
            steps = _if_there(lambda: _csv(files, root / "metrics/training.csv"))
            validations = _if_there(lambda: _csv(files, root / "metrics/validation.csv"))
            model = artifact.load(folder).to(device)
            parameters = sum(weight.numel() for weight in model.parameters())
            if tokens:
                table = each_token(model, tokens, evaluate)
        else:
            left_out("the curves are", "models/gpt is not at hand, or not the one measured")

        chain: Chain = _if_there(lambda: json.loads(files.read_text(root / "samples" / FILE))) or {}
        generations = _if_there(lambda: json.loads(files.read_text(root / "samples/samples.json")))
        if not chain or chain["sample"]["inputs"]["weights"] != inputs["weights"]:
            left_out("the generations are", "samples is not at hand, or of another model")
            generations, chain = None, {}
    return Result(
        run, metrics, steps, validations, corpus, table, parameters, generations,
        run.chain | {"sample": chain["sample"]} if chain else run.chain, notes,
    )  # fmt: skip


def _if_there(read: Callable[[], Value]) -> Value | None:
    """What `read` gives; None where the file is not there, nor in DVC's cache."""
    try:
        return read()
    except (OSError, DataIndexDirError):
        return None


def _csv(files: DVCFileSystem, path: PurePosixPath) -> pd.DataFrame:
    with files.open(path, "rb") as file:
        return pd.read_csv(file)


def _loss(run: Run) -> float:
    return float(run.documents.nats.sum() / run.documents.tokens.sum())


def _weights(folder: Path) -> str:
    return sha256(folder / "model.safetensors")


def _corpus(tokens: TokenTensor, checksum: str) -> Corpus:
    encoding = gpt2_encoding(tokens.n_vocab)
    documents = tokens.documents
    held_out = documents[documents.held_out]
    texts = tensor.texts(tokens.held_out, held_out, encoding)
    return Corpus(
        checksum,
        tensor.rank_frequency(tensor.count(tokens.tokens, tokens.n_vocab), encoding),
        documents.tokens[~documents.held_out].to_numpy(),
        held_out.tokens.to_numpy(),
        [" ".join(text.split())[:EXCERPT] for text in texts],
    )
