"""The examples run, and their pictures are there."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

import hub
from clone import Clone, environment, wait_for
from conftest import ROOT, needs_ctrl_c
from hub import parquet
from test_docs import commands
from test_pretrained import saved

WITHOUT_TEXTS = """
from pathlib import Path
text = Path("examples/own_texts.py").read_text().replace("corpora/*.txt", "none/*.txt")
exec(text)
"""


def example(clone: Clone, name: str) -> str:
    """What examples/NAME prints in a clone; only its own pictures are there then."""
    shutil.rmtree(clone.folder / "reports", ignore_errors=True)
    return clone.run(sys.executable, f"examples/{name}").stdout


@pytest.fixture
def theirs(clone: Clone) -> Iterator[list[str]]:
    """A model from elsewhere, and what an experiment sets that measures it."""
    saved(clone, seed=1)
    yield ["evaluate.model=pretrained/theirs", "evaluate.stride=48"]
    shutil.rmtree(clone.folder / "pretrained/theirs")


@pytest.fixture(autouse=True)
def _no_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")


def test_each_is_short_and_in_cells() -> None:
    files = sorted(ROOT.glob("examples/*.py"))
    assert len(files) == 7
    for file in files:
        lines = file.read_text().splitlines()
        assert len(lines) <= 90
        assert sum(line.startswith("# %%") for line in lines) > 3


def test_dropout(clone: Clone) -> None:
    printed = example(clone, "dropout.py")
    assert "p = 0.5: mean 1.0" in printed
    assert "largest 2.000" in printed
    assert "in evaluation: [[1.0, 1.0, 1.0]]" in printed
    assert "step 5 again is the same: True" in printed
    assert "keys dropped, p = 0.3: rows sum to 1.00 to 1.00" in printed
    assert not re.search(r"weights dropped.* 1.00 to 1.00", printed)
    assert pictures(clone) == ["activation.png", "attention.png", "masks.png"]
    assert told(printed) == pictures(clone)


def test_result_files(clone: Clone) -> None:
    """Written outside of dropgpt, and compared by it, as README.md shows."""
    assert "dropgpt compare reports/*.json --by scale" in example(clone, "result_files.py")
    (words,) = [w for w in commands(ROOT / "README.md") if "--require" in w]
    printed = clone.dropgpt(*words[1:]).splitlines()
    (shown,) = re.findall(r"^```text\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    assert [line for line in printed if line in shown.splitlines()] == shown.splitlines()


@pytest.mark.slow
def test_experiments(clone: Clone, theirs: list[str]) -> None:
    """Those of a rate, whatever else has been tried since HEAD."""
    clone.dvc("exp", "remove", "--all-commits")
    for name, *words in (
        ["none", "model.dropout=0.0", "evaluate"],
        ["half", "model.dropout=0.5", "evaluate"],
        ["again", "model.dropout=0.5", "train.validation_interval=4", "evaluate"],
        ["seed", "model.dropout=0.5", "train.seed=2", "evaluate"],
        ["theirs", *theirs, "evaluate"],
        ["other", "data.files=corpora/0.txt", "evaluate"],
        ["only-trained", "model.dropout=0.3", "train"],
        ["only-tokens", "tokenize.validation_fraction=0.2", "tokenize"],
    ):
        *settings, stage = words
        options = [word for setting in settings for word in ("-S", setting)]
        clone.dvc("exp", "run", "--name", name, *options, stage)
        clone.git("checkout", "--quiet", "--force", "HEAD")
        clone.put_back()
    # A branch by the name of an experiment, with curves of its own.
    (clone.folder / "metrics/validation.csv").write_text("no,curve\n")
    clone.commit()
    clone.git("branch", "half")
    clone.git("reset", "--quiet", "--hard", "HEAD~1")
    printed = example(clone, "experiments.py")
    clone.git("branch", "-D", "half")
    assert re.search(r"^half +0.5 +1 +\d+", printed, re.MULTILINE)
    assert re.search(r"^ *0.0 .* baseline$", printed, re.MULTILINE)
    assert re.search(r"^ *0.5 +2 +2 .* cannot tell: one seed$", printed, re.MULTILINE)
    assert not re.search(r"^ *0.3 .* cannot tell", printed, re.MULTILINE)
    assert "only-trained: params.yaml says model.dropout 0.3, the result was made with" in printed
    assert "half is the same result as again: it counts once" in printed
    assert "other is left out" in printed
    assert pictures(clone) == told(printed) == ["differences.png", "validation.png"]
    assert "theirs" in clone.dropgpt("compare", "--json")  # which the command knows to compare


def test_without_experiments_it_says_so(clone: Clone) -> None:
    clone.dvc("exp", "remove", "--all-commits")
    done = clone.run(sys.executable, "examples/experiments.py", ok=False)
    assert done.stderr.splitlines()[-1].startswith("no experiment since HEAD has a result: run")
    assert "Traceback" not in done.stderr


def test_without_texts_of_ones_own_nothing_is_set(clone: Clone) -> None:
    """An experiment would leave its settings in params.yaml."""
    before = (clone.folder / "params.yaml").read_bytes()
    told = clone.run(sys.executable, "-c", WITHOUT_TEXTS, ok=False).stderr
    assert told == "error: no file matches none/*.txt: put your texts there\n"
    assert (clone.folder / "params.yaml").read_bytes() == before


def test_without_optuna_a_line_says_how_to_install_it(clone: Clone) -> None:
    code = "import runpy, sys; sys.modules['optuna'] = None; runpy.run_path('examples/search.py')"
    told = clone.run(sys.executable, "-c", code, ok=False).stderr
    assert told == (
        "error: Optuna is not installed: python -m pip install --constraint constraints.txt "
        "--editable '.[search]'\n"
    )


@pytest.mark.slow
def test_own_texts(clone: Clone, theirs: list[str]) -> None:
    """Twice, and after another's model was measured, which params.yaml still says then."""
    clone.dvc("exp", "remove", "--all-commits")
    sites = {"embedding": 0.3, "mlp": 0.2}
    clone.set(model={"dropout_sites": sites | {"attention": None, "attention_output": None}})
    clone.dvc("exp", "run", "-n", "theirs", "-S", theirs[0], "-S", theirs[1], "evaluate")
    example(clone, "own_texts.py")
    params = YAML(typ="safe").load(clone.folder / "params.yaml")
    assert {*params["model"]["dropout_sites"].values()} == {None}
    printed = example(clone, "own_texts.py")
    assert re.search(r"8 readings are \d+ steps; dropout 0\.0", printed)
    assert "bits_per_byte" in printed
    assert (clone.folder / "reports/index.html").is_file()
    assert "train" in clone.json("data/evaluation/provenance.json")
    assert re.search(r"experiment own-texts of an earlier run is now own-texts-\d+-\d+", printed)
    named = clone.dvc("exp", "list", "--name-only", "--all-commits").split()
    assert [re.sub(r"-\d+-\d+", "-DATE", one) for one in sorted(named)] == [
        "own-texts",
        "own-texts-DATE",
        "theirs",
    ]


@pytest.mark.slow
def test_stories(clone: Clone, theirs: list[str], online: pytest.MonkeyPatch) -> None:
    """Few stories, few steps, and after another's model was measured."""
    clone.dvc("exp", "remove", "--all-commits")
    clone.set(evaluate={"model": "pretrained/theirs", "stride": 48})  # as its experiment leaves it
    stories = [
        f"Once upon a time, there was a {size} {who} named {name}."
        + f" {name} liked to {deed}." * 6
        for size in ("little", "big", "happy", "sad")
        for who in ("girl", "boy", "dog", "cat", "bird")
        for name in ("Lily", "Tom", "Max", "Sue", "Ben")
        for deed in ("play in the park", "eat red apples", "run to the tree")
    ]
    file = clone.folder / "examples/stories.py"
    code = file.read_text()
    for name, fewer in ("STEPS", 10), ("STORIES", len(stories)):
        code = re.sub(rf"^{name} = \S+", f"{name} = {fewer}", code, flags=re.MULTILINE)
    file.write_text(code)
    tiny_stories = hub.Repository(
        "roneneldan/TinyStories",
        {"data/train-00000-of-00001.parquet": parquet([{"text": one} for one in stories])},
        re.findall(r"data.revision=(\w+)", code)[0],
    )
    with hub.serving(others=[tiny_stories]) as endpoint:
        online.setenv("HF_ENDPOINT", endpoint)
        printed = example(clone, "stories.py")
    assert len(pd.read_parquet(clone.folder / "data/documents.parquet")) == len(stories)
    assert "bits_per_byte" in printed
    assert re.search(r"^\$ dropgpt write .*\nOnce upon a time", printed, re.MULTILINE)
    chain = clone.json("models/gpt/provenance.json")
    assert chain["train"]["params"]["train"]["steps"] == 10
    assert chain["train"]["params"]["model"]["n_ctx"] == 256
    assert chain["train"]["params"]["model"]["dropout"] == 0
    assert chain["tokenize"]["params"]["tokenize"]["vocabulary_size"] == 4096
    prompts = {one["prompt"] for one in clone.json("samples/samples.json")}
    assert prompts == {"Once upon a time", "One day", "<|endoftext|>"}


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on(clone: Clone, theirs: list[str]) -> None:
    """With the trial that it was at, and to the end; each value is that of its experiment."""
    pytest.importorskip("optuna", reason="`pip install '.[search]'` brings it")
    clone.dvc("exp", "remove", "--all-commits")
    clone.set(evaluate={"model": "pretrained/theirs", "stride": 48})  # as its experiment leaves it
    file = clone.folder / "examples/search.py"
    file.write_text(file.read_text().replace("TRIALS = 20", "TRIALS = 2"))
    search = subprocess.Popen(
        [sys.executable, file], cwd=clone.folder, env=environment(), start_new_session=True
    )
    wait_for(clone.processes)
    os.killpg(search.pid, signal.SIGKILL)
    search.wait()
    printed = example(clone, "search.py")
    trials = re.findall(r"^ +(\d) (\S+) +(\S+) +(\S+) COMPLETE$", printed, re.MULTILINE)
    assert [number for number, *_ in trials] == ["0", "1"]
    for number, value, dropout, rate in trials:
        pattern = f"refs/exps/*/*/search-{number}"
        ref = clone.git("for-each-ref", "--format=%(refname)", pattern).stdout.strip()
        metrics = json.loads(clone.git("show", f"{ref}:metrics/evaluate.json").stdout)
        params = YAML(typ="safe").load(clone.git("show", f"{ref}:params.yaml").stdout)
        assert float(value) == pytest.approx(metrics["bits_per_byte"], abs=1e-6)
        assert float(dropout) == pytest.approx(params["model"]["dropout"])
        assert float(rate) == pytest.approx(params["train"]["learning_rate"], abs=1e-6)
    file.write_text(file.read_text().replace("TRIALS = 2", "TRIALS = 3"))
    clone.set(train={"steps": 3})
    done = clone.run(sys.executable, "examples/search.py", ok=False)
    assert "params.yaml is not what it was for the trials before" in done.stderr


def with_stand_in(folder: Path, lines: list[str]) -> Path:
    """examples/keep_or_drop.py, to which a shell script of these lines is `dropgpt`."""
    script, example = "\n".join(lines), folder / "keep_or_drop.py"
    (folder / "stand_in.py").write_text(f"import os; os.execlp('sh', 'sh', '-c', {script!r})")
    code = (ROOT / "examples/keep_or_drop.py").read_text()
    assert code.count('status("dropgpt", ') == 1
    example.write_text(code.replace('status("dropgpt", ', 'status("stand_in", '))
    return example


def test_what_was_judged_and_kept_outlives_a_full_disk(tmp_path: Path) -> None:
    """`dropgpt try` calls one change better and is stopped, then all of them."""
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    example = with_stand_in(tmp_path, ["mkdir once 2> /dev/null || test -e go || exit 2"])
    written = [tmp_path / "params.yaml", tmp_path / "runs/keep_or_drop.json"]

    def run(before: str = "") -> int:
        command = f"{before} exec {sys.executable} {example}"
        return subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True).returncode

    assert run() == 2
    whole = [file.read_text() for file in written]
    (tmp_path / "go").touch()
    assert run("ulimit -f 0;") == 1
    assert [file.read_text() for file in written] == whole
    assert run() == 0
    assert len(json.loads(written[1].read_text())) == 4
    assert YAML(typ="safe").load(written[0])["train"]["learning_rate"] == 0.002


def test_a_change_that_fails_is_dropped(tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    example = with_stand_in(tmp_path, ["mkdir once 2> /dev/null && exit 4; exit 0"])
    done = subprocess.run(
        [sys.executable, example], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[:2] == [
        "model.dropout=0.0: failed, dropped",
        "model.dropout=0.05: better, kept",
    ]


@pytest.mark.slow
def test_what_is_better_is_kept(clone: Clone) -> None:
    """Twice: the second time all has been judged."""
    clone.dvc("exp", "remove", "--all-commits")
    file = clone.folder / "examples/keep_or_drop.py"
    text = file.read_text().replace("SEEDS = 5", "SEEDS = 2").replace("[0.0, 0.05]", "[]")
    file.write_text(text.replace("[0.004, 0.002]", "[0.5, 0.0001]"))  # the tiny model learns by 0.5
    before = clone.stamps()
    printed = example(clone, "keep_or_drop.py")
    verdicts = re.findall(
        r"^(\S+)=(\S+): (better|worse|cannot tell), (kept|dropped)$", printed, re.M
    )
    assert [value for _, value, _, _ in verdicts] == ["0.5", "0.0001"]
    assert all((done == "kept") == (verdict == "better") for *_, verdict, done in verdicts)
    params = YAML(typ="safe").load(clone.folder / "params.yaml")
    kept = {key: float(value) for key, value, _, done in verdicts if done == "kept"}
    rate = kept.get("train.learning_rate", 0.003)
    assert params["train"]["learning_rate"] == rate
    assert clone.stamps() == before
    assert example(clone, "keep_or_drop.py").splitlines() == printed.splitlines()[-2:]
    file.write_text(file.read_text().replace("[0.5, 0.0001]", "[0.0001]"))
    done = clone.run(sys.executable, "examples/keep_or_drop.py", ok=False)
    assert "runs/keep_or_drop.json is of other changes: remove it to begin anew" in done.stderr
    shutil.rmtree(clone.folder / "runs")


def told(printed: str) -> list[str]:
    """The pictures of which an example says where they are."""
    return sorted(re.findall(r"^picture: reports/(\S+)$", printed, re.MULTILINE))


def pictures(clone: Clone) -> list[str]:
    return sorted(file.name for file in clone.folder.glob("reports/*.png"))


@needs_ctrl_c
def test_ctrl_c_waits_for_what_a_try_has_to_end(tmp_path: Path) -> None:
    """More than the quarter of a second that subprocess.run gives."""
    lines = [
        "trap 'sleep 1; touch ended; kill $!; exit 130' INT",
        "sleep 60 &",
        "touch begun",
        "wait",
    ]
    command = [sys.executable, str(with_stand_in(tmp_path, lines))]
    running = subprocess.Popen(command, cwd=tmp_path, start_new_session=True)
    wait_for((tmp_path / "begun").exists)
    os.killpg(running.pid, signal.SIGINT)
    assert running.wait(60) == 130
    assert (tmp_path / "ended").exists()


@pytest.mark.slow
@needs_ctrl_c
def test_ctrl_c_waits_for_what_dvc_has_to_end(clone: Clone) -> None:
    """And its environment need not be active."""
    clone.dvc("exp", "remove", "--all-commits")
    clone.set(train={"steps": 100_000, "warmup_steps": 1})
    example = clone.folder / "examples/run.py"
    example.write_text('from dropgpt.terminal import run\nrun("dvc exp run --name long")\n')
    inactive = environment() | {"PATH": "/usr/bin:/bin"}
    running = subprocess.Popen(
        [sys.executable, example],
        cwd=clone.folder,
        env=inactive,
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: any("stages.train" in one.cmdline() for one in clone.processes()))
    os.killpg(running.pid, signal.SIGINT)
    said = running.communicate(timeout=60)[1]
    assert running.returncode == 130
    assert "Traceback" not in said
    assert not clone.processes()
    example.unlink()
