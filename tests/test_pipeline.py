"""The pipeline as a user runs it: through DVC, in a clone of its own, on a tiny configuration."""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML

from conftest import ROOT, TINY

WORDS = ["the", "cat", "sat", "dog", "on", "under", "house", "tree", "and", "then", "it", "was"]
OUTPUTS = ["data/documents.parquet", "data/tokens", "data/evaluation.parquet", "models/gpt"]
OUTPUTS += ["samples", "metrics"]


class Clone:
    """A clone of the project with its own git history and DVC cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tracked = self.git("ls-files", "--cached", "--others", "--exclude-standard", at=ROOT)
        for name in tracked.stdout.splitlines():
            if (ROOT / name).is_file() and not name.startswith("metrics/") and name != "dvc.lock":
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, folder / name)
        for number in range(3):
            lines = (" ".join(WORDS[(i * j + number) % 12] for j in range(60)) for i in range(9))
            (folder / f"corpora/{number}.txt").write_text("<|endoftext|>".join(lines))
        self.set(**TINY, data={"source": "files", "files": "corpora/*.txt"})
        self.git("init", "--quiet")
        self.commit()

    def set(self, **sections: dict[str, Any]) -> None:
        """Change params.yaml as a user with an editor would."""
        yaml = YAML()
        values = yaml.load(self.folder / "params.yaml")
        for section, changes in sections.items():
            values[section].update(changes)
        yaml.dump(values, self.folder / "params.yaml")

    def git(self, *arguments: str, at: Path | None = None) -> subprocess.CompletedProcess[str]:
        name = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        return self.run("git", *name, *arguments, at=at)

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "as it stands")

    def dvc(self, *arguments: str, ok: bool = True) -> str:
        """What `dvc …` prints, on both streams."""
        done = self.run(sys.executable, "-m", "dvc", *arguments, ok=ok)
        return done.stdout + done.stderr

    def run(
        self, *command: str, ok: bool = True, at: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            command,
            cwd=at or self.folder,
            env=os.environ | {"PATH": path, "PYTHONPATH": str(self.folder / "src")},
            capture_output=True,
            text=True,
        )
        assert (done.returncode == 0) == ok, done.stdout + done.stderr
        return done

    def metrics(self, name: str) -> Any:
        return json.loads((self.folder / f"metrics/{name}.json").read_text())

    def bytes(self) -> dict[str, bytes]:
        """Every output file and what it holds."""
        roots = [self.folder / output for output in OUTPUTS]
        files = [file for root in roots for file in (root.rglob("*") if root.is_dir() else [root])]
        return {str(f.relative_to(self.folder)): f.read_bytes() for f in files if not f.is_dir()}


def stages_run(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which `dvc repro` has run once and been committed."""
    clone = Clone(tmp_path_factory.mktemp("clone"))
    output = clone.dvc("repro")
    assert stages_run(output) == ["download_fineweb", "tokenize", "train", "evaluate", "sample"]
    assert "loss" in output
    clone.commit()
    return clone


@pytest.fixture
def clone(reproduced: Clone) -> Iterator[Clone]:
    """The same, put back afterwards to what was committed."""
    yield reproduced
    reproduced.git("checkout", "--quiet", "--force", "HEAD")
    reproduced.git("clean", "--quiet", "--force", "-d")
    reproduced.dvc("checkout", "--force")


def test_everything_is_there_and_adds_up(clone: Clone) -> None:
    tokens, evaluate = clone.metrics("tokens"), clone.metrics("evaluate")
    assert tokens["train_tokens"] + tokens["validation_tokens"] == tokens["tokens"]
    assert evaluate["tokens"] == tokens["validation_tokens"]
    assert evaluate["perplexity"] == pytest.approx(math.exp(evaluate["loss"]))
    assert evaluate["perplexity_95_low"] < evaluate["perplexity"] < evaluate["perplexity_95_high"]
    assert evaluate["unigram_perplexity"] > 1
    documents = pd.read_parquet(clone.folder / "data/evaluation.parquet")
    assert documents.nats.sum() / documents.tokens.sum() == pytest.approx(evaluate["loss"])
    assert {"loss", "validation_loss", "best_validation_loss", "best_step"} <= set(
        clone.metrics("train")
    )
    assert len(pd.read_csv(clone.folder / "metrics/training.csv")) == TINY["train"]["steps"]
    samples = json.loads((clone.folder / "samples/samples.json").read_text())
    assert len(samples) == 2 * 4
    assert len(clone.metrics("sample")) == 4


def test_a_second_repro_has_nothing_to_do(clone: Clone) -> None:
    assert "up to date" in clone.dvc("repro")


def test_two_runs_leave_the_same_lock_file(clone: Clone) -> None:
    before = clone.bytes()
    assert len(stages_run(clone.dvc("repro", "--force"))) == 5
    assert clone.git("diff", "--exit-code", "dvc.lock").stdout == ""
    assert clone.bytes() == before


def test_an_experiment_runs_only_what_it_changes(clone: Clone) -> None:
    output = clone.dvc("exp", "run", "-S", "model.dropout=0.2")
    assert stages_run(output) == ["train", "evaluate", "sample"]
    table = clone.dvc("metrics", "diff")
    row = next(line.split() for line in table.splitlines() if "perplexity " in line)
    assert row[:2] == ["metrics/evaluate.json", "perplexity"]
    assert float(row[4]) == pytest.approx(float(row[3]) - float(row[2]), abs=1e-3)
    assert float(row[4]) != 0


def test_new_temperatures_only_sample_again(clone: Clone) -> None:
    output = clone.dvc("exp", "run", "-S", "sample.temperatures=[0.7]")
    assert stages_run(output) == ["sample"]
    assert list(clone.metrics("sample")) == ["temperature 0.7"]


def test_runtime_changes_run_nothing(clone: Clone) -> None:
    assert stages_run(clone.dvc("exp", "run", "-S", "runtime.log_interval=1")) == []


def test_extra_corpora_are_measured_the_same_way(clone: Clone) -> None:
    clone.dvc("exp", "run", "-S", "evaluate.extra_corpora=[corpora/1.txt]")
    extra = clone.metrics("evaluate")["extra_corpora"]["corpora/1.txt"]
    assert extra["documents"] == 9
    assert extra["perplexity"] == pytest.approx(math.exp(extra["loss"]))
    documents = pd.read_parquet(clone.folder / "data/evaluation.parquet")
    assert documents.groupby("corpus").tokens.sum()["corpora/1.txt"] == extra["tokens"]


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"model": {"dropout": 1.0}}, "params.yaml: model.dropout is 1.0: input should be less"),
        ({"model": {"dropuot": 0.1}}, "params.yaml: model.dropuot: unknown key; did you mean"),
        ({"model": {"n_ctx": 200}}, "part has"),
        ({"data": {"files": "nowhere/*.txt"}}, "data.files is 'nowhere/*.txt', which matches no"),
        ({"sample": {"prompts": ["word " * 50]}}, "params.yaml: sample.prompts.0 has 51 tokens"),
        ({"tokenize": {"validation_fraction": 0.99}}, "validation_fraction 0.99 holds out every"),
    ],
)
def test_a_mistake_gives_one_line_and_leaves_earlier_results(
    clone: Clone, sections: dict[str, Any], said: str
) -> None:
    before = clone.bytes()
    clone.set(**sections)
    output = clone.dvc("repro", ok=False)
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert said in line
    assert clone.bytes() == before


def test_a_full_disk_gives_one_line_and_leaves_earlier_results(
    reproduced: Clone, tmp_path: Path
) -> None:
    """On a file system with no room for a model four times as large."""
    size = sum(f.stat().st_size for f in reproduced.folder.rglob("*") if f.is_file()) + 4_000_000
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(tmp_path)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("it takes more rights to mount a small file system")
    try:
        clone = copy(reproduced)
        clone.folder = tmp_path / "clone"
        shutil.copytree(reproduced.folder, clone.folder)
        before = clone.bytes()
        clone.set(model={"n_embd": 64})
        output = clone.dvc("repro", ok=False)
        assert "the disk is full" in output
        assert "Traceback" not in output
        assert clone.bytes() == before
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
