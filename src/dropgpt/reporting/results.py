"""All that a revision holds of a run, read where DVC keeps it.

Only what belongs together is taken: curves, samples and a model that are not of the model that
was evaluated are left out, with a line that says so.
"""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from safetensors import safe_open

from dropgpt.comparison.experiments import Run, evaluated
from dropgpt.errors import UserError
from dropgpt.machine import kept
from dropgpt.machine.files import SUMS, check_seal, sha256
from dropgpt.machine.progress import UNSEEN, progress
from dropgpt.machine.provenance import FILE, Chain
from dropgpt.machine.repository import changed, opened
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

Value = TypeVar("Value")


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


def read(run: Run, runtime: Runtime) -> Result:
    """What else there is of a run, in the revision in which it was found.

    What is measured for it is kept for the next time.
    """
    revision = run.name
    inputs = run.chain["evaluate"]["inputs"]
    weights = inputs["weights"]
    evaluate = evaluated(run.chain)
    steps = validations = corpus = table = parameters = generations = None
    chain, notes = dict(run.chain), list(run.notes)

    with opened(revision) as files, TemporaryDirectory() as temporary:

        def fetched(folder: str, stage: str) -> Path | None:
            """What `stage` has made, where it is at hand; of what lies elsewhere, a copy."""
            if revision == "workspace" and Path(folder).is_dir():
                return Path(folder)
            there = Path(temporary, folder)
            there.parent.mkdir(exist_ok=True)
            try:
                files.copy(folder, there)
                check_seal(there, stage, [])
            except FileNotFoundError:
                return None
            except UserError:  # it would name the copy, of which nobody knows
                notes.append(
                    f"{revision}: {folder} is damaged in DVC's cache: docs/recovery.md says how to "
                    "mend it"
                )
                return None
            return there

        def table_of(name: str) -> pd.DataFrame:
            return pd.read_csv(BytesIO(files.read(f"metrics/{name}")))

        def shown(found: Iterable[pd.DataFrame], number: int) -> Iterable[pd.DataFrame]:
            title = f"report: {revision}"
            return progress(title, "windows", runtime.log_interval, number, found, delay=UNSEEN)

        def json_of(name: str) -> Any:
            return json.loads(files.read(f"samples/{name}"))

        tokens = None
        if (folder := fetched("data/tokens", "tokenize")) and _is(folder / SUMS, inputs["tokens"]):
            tokens = tensor.read(folder)
            lengths = pd.concat(tensor.tables(folder, "tokens")).tokens
            corpus = _corpus(tokens, lengths, inputs["tokens"])
        else:
            notes.append(f"{revision}: data/tokens is not at hand, or is not what was measured on")

        if evaluate.model is not None:
            notes.append(f"{revision}: {evaluate.model} was made elsewhere: it has no curves here")
        elif (folder := fetched("models/gpt", "train")) and _is(folder / WEIGHTS, weights):
            check_seal(folder, "train", [WEIGHTS, "config.json"])
            # git brings metrics/ of another commit alone: then one of the two is of no lock here.
            if revision != "workspace" or len(changed("models/gpt", "metrics/training.csv")) != 1:
                steps = _if_there(lambda: table_of("training.csv"))
                validations = _if_there(lambda: table_of("validation.csv"))
            else:
                notes.append(
                    "workspace: models/gpt is not of the training in metrics/training.csv, as "
                    "after `git checkout`: `dvc checkout` brings its model"
                )
            parameters = _parameters(folder / WEIGHTS)
            if tokens:
                table = kept.table(
                    {
                        "model": sha256(folder / SUMS),
                        "tokens": inputs["tokens"],
                        "evaluate": evaluate.model_dump(),
                        # Another processor changes the last bits, which no picture shows.
                        "device": runtime.device,
                        "torch": version("torch"),
                    },
                    partial(_each_token, folder, tokens, evaluate, runtime, shown),
                )
        else:
            notes.append(f"{revision}: models/gpt is not at hand, or is not what was measured")

        made_by: Chain = _if_there(lambda: json_of(FILE)) or {}
        if "sample" in made_by and made_by["sample"]["inputs"]["weights"] == weights:
            generations = _if_there(lambda: json_of("samples.json"))
            chain["sample"] = made_by["sample"]
        else:
            notes.append(f"{revision}: samples is not at hand, or of another model")
    return Result(run, steps, validations, corpus, table, parameters, generations, chain, notes)


def _each_token(
    model: Path, tokens: TokenTensor, evaluate: Evaluate, runtime: Runtime, shown: Shown
) -> pd.DataFrame:
    # Imported where something is measured: torch takes longer than the page without it.
    from dropgpt.machine.hardware import prepare
    from dropgpt.model import artifact
    from dropgpt.reporting.each_token import each_token

    device = prepare(runtime.device, runtime.threads)
    return each_token(artifact.load(model).to(device), tokens, evaluate, shown=shown)


def _parameters(weights: Path) -> int:
    """How many the model has, as the head of its file tells."""
    with safe_open(weights, "numpy") as file:
        shapes = [file.get_slice(name).get_shape() for name in list(file.keys())]
    return sum(map(math.prod, shapes))


def _is(file: Path, checksum: str) -> bool:
    """Whether a file is there, and what it was."""
    return file.is_file() and sha256(file) == checksum


def _if_there(read: Callable[[], Value]) -> Value | None:
    """What `read` gives; None where the file is not there, nor in DVC's cache."""
    try:
        return read()
    except FileNotFoundError:
        return None


_encoding = cache(gpt2_encoding)  # half a second, and most runs have the same


def _corpus(tokens: TokenTensor, lengths: pd.Series, checksum: str) -> Corpus:
    encoding = _encoding(tokens.n_vocab)
    held_out = tokens.documents[tokens.documents.held_out]
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
