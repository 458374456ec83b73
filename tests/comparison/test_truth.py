"""`dropgpt compare` never shows a loss under parameters that did not make it."""

import hashlib
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from dvc.utils.flatten import flatten
from ruamel.yaml import YAML

from clone import Clone, stages_run
from dropgpt.comparison import experiments
from dropgpt.comparison.experiments import Run

CHOICES: dict[str, list[Any]] = {
    "model.dropout": [0.0, 0.3],
    "train.seed": [1, 2],
    "evaluate.stride": [8, 16],
    "tokenize.end_of_text": [True, False],
}
ACTIONS = ["code", "repro", "train", "exp", "exp", "exp train", "save", "commit"]
CODE = "src/dropgpt/model/gpt.py"
VARIANTS = ("self.mlp(self.ln_2(y))", "self.mlp(y)")  # of the code


class Ledger:
    """What a careful person writes down when a stage has really run: what its output is of.

    By the content of the outputs, since DVC brings them back from its caches, and takes the
    parameters that `dvc exp save` finds for those of the outputs beside them.
    """

    def __init__(self, clone: Clone) -> None:
        self.clone = clone
        self.tokens: dict[str, Any] = {}
        self.models: dict[str, dict[str, Any]] = {}
        self.results: dict[str, dict[str, Any]] = {}
        self.write(["tokenize", "train", "evaluate"])

    def write(self, stages: list[str]) -> None:
        """These stages have just run, on what lies in the folder."""
        now = self.params()
        if "tokenize" in stages:
            self.tokens[self.md5("data/tokens/tokens.npy")] = now["tokenize.end_of_text"]
        if "train" in stages:
            self.models[self.md5("models/gpt/model.safetensors")] = now | {
                "tokenize.end_of_text": self.tokens[self.md5("data/tokens/tokens.npy")],
                "normed": VARIANTS[0] in (self.clone.folder / CODE).read_text(),
            }
        if "evaluate" in stages:
            model = self.models[self.md5("models/gpt/model.safetensors")]
            stride = {"evaluate.stride": now["evaluate.stride"]}
            self.results[nats(experiments.read("workspace"))] = model | stride

    def params(self) -> dict[str, Any]:
        values = flatten(YAML(typ="safe").load(self.clone.folder / "params.yaml"))
        return {key: values[key] for key in CHOICES}

    def md5(self, path: str) -> str:
        return hashlib.md5((self.clone.folder / path).read_bytes()).hexdigest()

    def check(self, run: Run, codes: dict[str, bool]) -> None:
        truth = self.results[nats(run)]
        normed = truth["normed"]
        assert {key: run.made_by[key] for key in CHOICES} == {key: truth[key] for key in CHOICES}
        assert codes.setdefault(run.made_by["code.train"], normed) == normed


def nats(run: Run) -> str:
    return json.dumps(run.documents.nats.tolist())


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
                path = clone.folder / CODE
                old, new = choice.sample(VARIANTS, 2)
                path.write_text(path.read_text().replace(old, new))
            case "repro":
                ledger.write(stages_run(clone.dvc("repro")))
            case "train":
                ledger.write(stages_run(clone.dvc("repro", "train")))
            case "exp":
                ledger.write(stages_run(clone.dvc("exp", "run", "-n", name)))
                said[name] = ledger.params()
            case "exp train":
                ledger.write(stages_run(clone.dvc("exp", "run", "-n", name, "train")))
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
        run = experiments.read(revision)
        ledger.check(run, codes)
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


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_a_result_is_shown_as_what_made_it(life: Clone, seed: int) -> None:
    a_random_life(life, seed, length=12)


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


@pytest.mark.slow
def test_equal_parameters_with_other_code_are_both_named(life: Clone) -> None:
    """Fault 4."""
    life.dvc("exp", "remove", "--all-commits")
    life.dvc("exp", "run", "-n", "a", "-S", "train.seed=5")
    path = life.folder / CODE
    path.write_text(path.read_text().replace(*VARIANTS))
    life.dvc("exp", "run", "-n", "b")
    found = json.loads(life.dropgpt("compare", "--json"))
    assert found["by"].split(", ")[0] == "code.train"
    assert [group["runs"] for group in found["groups"]] == [1, 1]
    assert list(found["runs"]) == ["a", "b"]
    assert found["groups"][0]["bits_per_byte"] != found["groups"][1]["bits_per_byte"]


@pytest.mark.slow
def test_saved_parameters_that_were_never_run_are_told(life: Clone) -> None:
    """`dvc exp save` has DVC believe that what lies there is of the edited parameters."""
    life.set(model={"dropout": 0.6})
    life.dvc("exp", "save", "-n", "saved")
    found = json.loads(life.dropgpt("compare", "HEAD", "saved", "--json"))
    assert {run["model.dropout"] for run in found["runs"].values() if "model.dropout" in run} <= {
        0.1
    }
    (note,) = found["notes"]
    assert "saved: params.yaml says model.dropout 0.6, the result was made with 0.1" in note
    assert "`dvc repro --force train`" in note
    life.dvc("repro", "--force", "train")
    life.dvc("repro")
    assert experiments.read("workspace").made_by["model.dropout"] == 0.6
