"""`dropgpt trace` beside what the real training reads."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len

from clone import Clone
from dropgpt.__main__ import main
from dropgpt.corpus import document
from dropgpt.machine import provenance
from dropgpt.machine.files import SUMS, seal
from dropgpt.model import artifact
from dropgpt.params import load
from dropgpt.tokens import tensor
from dropgpt.tokens.array import Array
from dropgpt.tokens.batches import Batches
from dropgpt.tokens.encoding import encode_documents
from dropgpt.tokens.vocabulary import N_VOCAB, gpt2_encoding
from stages.train import train

TOKENS = Path("data/tokens")
ENCODING = gpt2_encoding()
Trace = Callable[..., str]

# So many windows that some begin with a document.
RANDOM = {"sampling": "random", "tokens": 500, "batch_size": 64, "micro_batch_size": 30}
RANDOM |= {"loss": "final_token"}
# Of 320 tokens or 10 windows: a batch lies in the first and second, one in the second and third.
THREE_EPOCHS = {"steps": 3, "validation_interval": 3, "batch_size": 8, "tokens": 321}


@pytest.fixture
def trace(clone: Clone, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Trace:
    """What `dropgpt trace …` prints in the clone, its warning first, or its one line of error."""
    monkeypatch.chdir(clone.folder)

    def trace(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["dropgpt", "trace", *arguments])
        capsys.readouterr()  # what a training has said before
        try:
            main()
        except SystemExit as error:
            assert "\n" not in str(error)
            return str(error)
        printed = capsys.readouterr()
        return str(printed.err + printed.out)

    return trace


def in_shards(number: int) -> None:
    """Have data/tokens in so many shards and an empty one, as stage tokenize makes it."""
    documents = list(document.read(Path("data/documents.parquet")))
    ends = [n * len(documents) // number for n in range(number + 1)]
    shards = [Path(f"shards/{n}") for n in range(number + 1)]
    for shard, (begin, end) in zip(shards, pairwise(sorted([*ends, ends[1]])), strict=True):
        part = documents[begin:end]
        tensor.write_shard(encode_documents(part, ENCODING, end_of_text=True), shard)
    tensor.join(shards, TOKENS, N_VOCAB, 0.1)


@pytest.mark.parametrize(
    ("shards", "changes"),
    [
        (1, THREE_EPOCHS),
        (1, THREE_EPOCHS | {"sampling": "fixed"}),
        (1, RANDOM),
        (4, THREE_EPOCHS),
        (1, THREE_EPOCHS | {"token_replacement": 0.2}),
    ],
    ids=["epoch", "fixed", "random", "shards", "replaced"],
)
def test_it_names_what_the_training_reads(
    clone: Clone,
    trace: Trace,
    monkeypatch: pytest.MonkeyPatch,
    shards: int,
    changes: dict[str, Any],
) -> None:
    if shards > 1:
        in_shards(shards)
    rows = Batches.rows
    read: dict[int, Array] = {}

    def recorded(self: Batches, step: int) -> Array:
        read[step] = rows(self, step)
        return read[step]

    monkeypatch.setattr(Batches, "rows", recorded)
    clone.set(train=changes)
    params = load(Path("params.yaml"))
    train(params)
    clone.set(train={"seed": 5, "sampling": "epoch", "tokens": None, "batch_size": 2})

    documents = list(document.read(Path("data/documents.parquet")))
    encoded = encode_documents(documents, ENCODING, end_of_text=True)
    tokens_of = {one.id: ids for one, ids in encoded}
    assert sorted(read) == list(range(params.train.steps))
    for step in read:
        found = json.loads(trace("--step", str(step), "--json"))
        windows, rate = found.pop("windows"), params.train.token_replacement
        expected = {"model": "models/gpt", "step": step, "seed": 1, "token_replacement": rate}
        assert found == expected
        assert ("input was replaced" in trace("--step", str(step))) == (rate > 0)
        assert [one["window"] for one in windows] == list(range(params.train.batch_size))
        for one, inputs, targets in zip(windows, *read[step], strict=True):
            parts = [
                tokens_of[part["id"]][part["offset"] : part["offset"] + part["tokens"]]
                for part in one["documents"]
            ]
            text = np.concatenate(parts)
            np.testing.assert_array_equal(text[1:], targets)
            assert (text[:-1] == inputs).all() == (rate == 0)
            assert [part["tokens"] for part in one["documents"]] == list(map(len, parts))
            assert all(map(len, parts))
            texts = [ENCODING.decode(part.tolist()) for part in parts]
            assert [part["text"] for part in one["documents"]] == texts


@pytest.mark.parametrize("columns", [None, 40])
def test_a_person_reads_a_line_of_each_text(
    trace: Trace, monkeypatch: pytest.MonkeyPatch, columns: int | None
) -> None:
    """As wide as the terminal; whole where it is short enough."""
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", str(columns))
    heading, *lines = trace("--step", "0").splitlines()
    assert heading == "models/gpt, step 0: 4 windows of 32 tokens and the one after them"
    expected = []
    for window in json.loads(trace("--step", "0", "--json"))["windows"]:
        expected.append(f"window {window['window']}")
        for part in window["documents"]:
            expected.append(f"  {part['tokens']} tokens from {part['offset']} on of {part['id']}")
            text = "    " + part["text"].strip()
            expected.append(text)
    for line, whole in zip(lines, expected, strict=True):
        assert line == whole or (cell_len(line) == (columns or 80) and line.endswith("…"))
        assert whole.startswith(line.removesuffix("…"))
    assert any(line.endswith("…") for line in lines)


def test_a_model_from_before_tokens_were_replaced_is_read(
    clone: Clone, trace: Trace, tmp_path: Path
) -> None:
    """And JSON is in ASCII, which any locale knows."""
    old = tmp_path / "naïve"
    shutil.copytree(artifact.TRAINED, old, ignore=shutil.ignore_patterns(SUMS))
    made = json.loads((old / provenance.FILE).read_text())
    del made["train"]["params"]["train"]["token_replacement"]
    (old / provenance.FILE).write_text(json.dumps(made))
    seal(old)
    said = trace("--step", "0", "--model", str(old), "--json")
    assert said.isascii()
    assert json.loads(said)["model"] == str(old)
    assert json.loads(said)["token_replacement"] == 0


def test_a_model_of_other_code_is_told_as_that(
    clone: Clone, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = trace("--step", "0")
    assert said.startswith("models/gpt, step 0")
    monkeypatch.setattr(provenance, "code", lambda stage: "other")
    warning, *rest = trace("--step", "0").splitlines()
    assert warning.startswith("warning: models/gpt was made by other code than lies here")
    assert rest == said.splitlines()


def test_a_mistake_is_one_line(clone: Clone, trace: Trace, tmp_path: Path) -> None:
    said = "the training of models/gpt had the steps 0 to 3"
    for step in ("4", "-1"):
        assert trace("--step", step) == f"error: --step {step}: {said}"
    nothing = trace("--step", "0", "--model", "models/none")
    assert nothing == "error: models/none: no such folder"
    (tmp_path / "theirs").mkdir()
    theirs = trace("--step", "0", "--model", str(tmp_path / "theirs"))
    assert theirs.endswith("theirs does not say what it was trained on: it was not made here")
    in_shards(2)  # the same tokens, but not the files of which the model says it was trained on
    assert trace("--step", "0").startswith("error: data/tokens is not what models/gpt was trained")
    (artifact.TRAINED / SUMS).chmod(0o644)
    (artifact.TRAINED / SUMS).write_text("")
    assert trace("--step", "0").startswith("error: models/gpt is damaged: ")


def test_it_does_without_torch() -> None:
    code = "import sys, dropgpt.commands.trace; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout.split()
