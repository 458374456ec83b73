"""`dropgpt compare` never shows a loss under parameters that did not make it."""

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from dvc.utils.flatten import flatten
from ruamel.yaml import YAML

from clone import Clone
from dropgpt.comparison import experiments

CHOICES: dict[str, list[Any]] = {
    "model.dropout": [0.0, 0.3],
    "train.seed": [1, 2],
    "evaluate.stride": [8, 16],
    "tokenize.end_of_text": [True, False],
}
ACTIONS = ["code", "repro", "train", "exp", "exp", "exp train", "save", "commit"]
VARIANTS = ("self.mlp(self.ln_2(y))", "self.mlp(y)")  # of the code


class Ledger:
    """What a careful person writes down: which parameters and code each result is of."""

    def __init__(self, clone: Clone) -> None:
        self.clone = clone
        self.made_by: dict[str, tuple[dict[str, Any], bool]] = {}
        self.write()

    def write(self) -> None:
        """After a run of the whole pipeline, the result is of what lies in the folder."""
        found = experiments.read("workspace").documents.nats.tolist()
        self.made_by[json.dumps(found)] = (self.params(), self.normed())

    def params(self) -> dict[str, Any]:
        values = flatten(YAML(typ="safe").load(self.clone.folder / "params.yaml"))
        return {key: values[key] for key in CHOICES}

    def normed(self) -> bool:
        return VARIANTS[0] in (self.clone.folder / "src/dropgpt/model/gpt.py").read_text()

    def check(self, revision: str, codes: dict[str, bool]) -> None:
        run = experiments.read(revision)
        params, normed = self.made_by[json.dumps(run.documents.nats.tolist())]
        assert {key: run.made_by[key] for key in CHOICES} == params, revision
        assert codes.setdefault(run.made_by["code.train"], normed) == normed, revision


def a_random_life(clone: Clone, seed: int, length: int) -> None:
    """Edits, whole and partial runs, saved experiments, commits and changes of the code."""
    clone.dvc("exp", "remove", "--all-commits")
    choice = random.Random(seed)
    ledger = Ledger(clone)
    said = {"HEAD": ledger.params()}  # by params.yaml, for each revision
    for number in range(length):
        name = f"life-{seed}-{number}"
        for key in choice.sample(list(CHOICES), choice.choice([0, 1, 1, 2])):
            section, word = key.split(".")
            clone.set(**{section: {word: choice.choice(CHOICES[key])}})
        match choice.choice(
            ["code", "repro", "train", "exp", "exp", "exp train", "save", "commit"]
        ):
            case "code":
                path = clone.folder / "src/dropgpt/model/gpt.py"
                old, new = choice.sample(VARIANTS, 2)
                path.write_text(path.read_text().replace(old, new))
            case "repro":
                clone.dvc("repro")
                ledger.write()
            case "train":
                clone.dvc("repro", "train")
            case "exp":
                clone.dvc("exp", "run", "-n", name)
                ledger.write()
                said[name] = ledger.params()
            case "exp train":
                clone.dvc("exp", "run", "-n", name, "train")
                said[name] = ledger.params()
            case "save":
                clone.dvc("exp", "save", "-n", name)
                said[name] = ledger.params()
            case "commit":
                clone.commit()
                said["HEAD"] = ledger.params()
    said["workspace"] = ledger.params()
    codes: dict[str, bool] = {}
    for revision, params in said.items():
        ledger.check(revision, codes)
        run = experiments.read(revision)
        if any(run.made_by[key] != params[key] for key in CHOICES):
            (note,) = run.notes
            assert "has not run since" in note
            assert all(key in note for key in CHOICES if run.made_by[key] != params[key])


@pytest.fixture
def life(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clone]:
    monkeypatch.chdir(clone.folder)
    first = clone.git("rev-parse", "HEAD").stdout.strip()
    yield clone
    clone.git("reset", "--quiet", "--hard", first)


@pytest.mark.parametrize(
    ("seed", "length"), [(1, 6), *(pytest.param(n, 12, marks=pytest.mark.slow) for n in range(10))]
)
def test_a_result_is_shown_as_what_made_it(life: Clone, seed: int, length: int) -> None:
    a_random_life(life, seed, length)


def test_a_stage_that_has_not_run_is_named(life: Clone) -> None:
    """Fault 1: the loss of HEAD under the rate of an experiment that was only trained."""
    life.dvc("exp", "run", "-n", "half", "-S", "model.dropout=0.9", "train")
    life.dvc("exp", "run", "-n", "tokens", "-S", "model.dropout=0.9")
    found = json.loads(life.dropgpt("compare", "HEAD", "half", "--json"))
    assert found["notes"] == [
        "half: params.yaml says model.dropout 0.9, the result was made with 0.1: the stage "
        "evaluate has not run since"
    ]
    life.git("checkout", "--quiet", "--force", "HEAD")
    life.dvc("checkout", "--force")
    # A run may be called as a column is.
    there = json.loads(life.dropgpt("compare", "HEAD", "tokens", "--json"))["documents"]
    back = json.loads(life.dropgpt("compare", "tokens", "HEAD", "--json"))["documents"]
    assert sorted(round(one["difference"], 9) for one in there) == sorted(
        round(-one["difference"], 9) for one in back
    )
    assert 0 < max(abs(one["difference"]) for one in there) < 2


def test_equal_parameters_with_other_code_are_both_named(life: Clone) -> None:
    """Fault 4."""
    life.dvc("exp", "remove", "--all-commits")
    life.dvc("exp", "run", "-n", "a", "-S", "train.seed=5")
    path = life.folder / "src/dropgpt/model/gpt.py"
    path.write_text(path.read_text().replace(*VARIANTS))
    life.dvc("exp", "run", "-n", "b")
    found = json.loads(life.dropgpt("compare", "--json"))
    assert found["by"].split(", ")[0] == "code.train"
    assert [group["runs"] for group in found["groups"]] == [1, 1]
    assert list(found["runs"]) == ["a", "b"]
    assert found["groups"][0]["loss"] != found["groups"][1]["loss"]
