"""`dropgpt try`: a change is run seed by seed until it is judged."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd
import psutil
import pytest

from clone import DROPGPT, Clone, environment, wait_for
from conftest import ROOT
from dropgpt.__main__ import main
from dropgpt.commands import try_
from dropgpt.comparison import experiments, interval
from dropgpt.comparison.experiments import Run
from dropgpt.errors import UserError
from dropgpt.machine import provenance

CHANGE = ["-S", "model.dropout=0.3"]


@pytest.fixture
def attempt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, list[str], list[str]]]:
    """`dropgpt try …` where the change has an `effect`: exit status, lines, settings that were run.

    `corpus` is what the files hold, `edit` is done before the run of this number has read
    params.yaml, or else after it; `places` are where the runs are made, by turns; the run of the
    number `fails` fails.

    What has been run stays for the next call.
    """
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(provenance, "code", lambda stage: "the code")
    monkeypatch.setattr(interval, "SIMULATED", 10_000)
    monkeypatch.setattr(try_, "_git", lambda *arguments: "")
    there: dict[str, Run] = {}
    monkeypatch.setattr(try_, "since_head", lambda: {name: name for name in there})
    monkeypatch.setattr(experiments, "read", lambda name, commit: there[commit])
    monkeypatch.setattr(experiments, "params", lambda name: texts[name])
    texts: dict[str, dict[str, Any]] = {}  # what the params.yaml of each experiment says of them

    def run(
        *arguments: str,
        effect: float = 0.0,
        corpus: str = "",
        edit: Callable[[int, str], None] = lambda number, when: None,
        places: tuple[str, ...] = ("here",),
        fails: int | None = None,
    ) -> tuple[int, list[str], list[str]]:
        made: list[str] = []

        def dvc(arguments: list[str], stdout: TextIO) -> int:
            if len(there) == fails:
                return 255
            settings = arguments[arguments.index("-S") + 1 :: 2]
            name = f"experiment {len(there)}"
            edit(len(there), "before")
            values = try_._expected(try_._params(settings))
            edit(len(there), "after")
            chance = np.random.default_rng(len(there)).normal(0, 0.001)
            bits = 3 + chance + effect * (values["model.dropout"] == 0.3)
            documents = pd.DataFrame(
                {"bytes": [100] * 20, "sha256": range(20), "source": range(20)}
            )
            documents["nats"] = bits * 100 * np.log(2)
            of_texts = {k: values.pop(k) for k in [*values] if k.startswith("data.")}
            texts[name] = of_texts
            values |= {"environment": places[len(there) % len(places)]}
            there[name] = Run(name, values, documents, texts=f"{of_texts} {corpus}")
            made.append(" ".join(settings))
            return 0

        monkeypatch.setattr("dropgpt.dvc.call", dvc)
        monkeypatch.setattr(sys, "argv", ["dropgpt", "try", *arguments])
        status = 0
        try:
            main()
        except SystemExit as left:
            status = left.code
        printed = capsys.readouterr()
        return status, (printed.out + printed.err).splitlines(), made

    return run


@pytest.mark.parametrize(("effect", "status", "told"), [(-1, 0, "better"), (1, 1, "worse")])
def test_it_stops_where_the_verdict_is_in(
    attempt: Callable[..., Any], effect: float, status: int, told: str
) -> None:
    found, lines, made = attempt(*CHANGE, effect=effect)
    assert found == status
    assert 3 <= len(lines) <= 5
    assert lines[-1].startswith(f"model.dropout=0.3: {told}, after ")
    assert len(made) == 2 * (len(lines) - 1)
    interval = r"[+-]\d\.\d{4} ± \d\.\d{4} \(9[5-9](\.\d+)?% interval\) bits per byte: "
    assert all(re.match(f"seeds 1 to [2-9]: {interval}", line) for line in lines[1:-1])


def test_a_setting_may_name_params_yaml_as_dvc_does(attempt: Callable[..., Any]) -> None:
    status, lines, made = attempt("-S", "params.yaml:model.dropout=0.3", effect=-1)
    assert status == 0
    assert lines[-1].startswith("model.dropout=0.3: better, after ")
    assert made[:2] == ["train.seed=1", "model.dropout=0.3 train.seed=1"]


def test_where_nothing_differs_the_seeds_are_used_up(attempt: Callable[..., Any]) -> None:
    status, lines, made = attempt(*CHANGE, "--seeds", "4")
    assert (status, len(made)) == (3, 8)
    assert lines[0].endswith("one seed tells nothing")
    assert lines[-1] == "model.dropout=0.3: cannot tell, after 4 of 4 seeds"


def test_what_has_been_run_counts(attempt: Callable[..., Any]) -> None:
    _, before, made = attempt(*CHANGE, "--seeds", "3")
    assert made == [
        name
        for seed in (1, 2, 3)
        for name in (f"train.seed={seed}", f"model.dropout=0.3 train.seed={seed}")
    ]
    assert attempt(*CHANGE, "--seeds", "3") == (3, before, [])
    _, _, others = attempt("-S", "model.dropout=0.4", "--seeds", "2")  # the baseline is there
    assert others == ["model.dropout=0.4 train.seed=1", "model.dropout=0.4 train.seed=2"]


def test_results_of_other_code_do_not_count(
    attempt: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt(*CHANGE, "--seeds", "2")
    monkeypatch.setattr(provenance, "code", lambda stage: "another")
    assert len(attempt(*CHANGE, "--seeds", "2")[2]) == 4


def test_what_an_experiment_began_with_is_no_result_of_it(
    attempt: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of one that ran the first stages only, to see how much text that is."""
    attempt(*CHANGE, "--seeds", "2")
    read, note = experiments.read, "the stage train has not run since"
    monkeypatch.setattr(
        experiments, "read", lambda name, commit: replace(read(name, commit), notes=(note,))
    )
    status, lines, made = attempt(*CHANGE, "--seeds", "2")
    assert (status, made) == (2, ["train.seed=1"])
    assert "has left no result" in lines[-1]


def test_a_pair_of_two_machines_is_not_judged(attempt: Callable[..., Any]) -> None:
    status, lines, made = attempt(*CHANGE, places=("here", "there"))
    assert (status, len(made)) == (2, 2)
    assert "experiment 0 was made by here, experiment 1 by there: no comparison" in lines[-1]
    assert "`dvc exp run --temp --force -S train.seed=1` makes the first again" in lines[-1]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"rev-parse": "true"}, "this clone is shallow"),
        ({"ls-files": "src/dropgpt/.ipynb_checkpoints/a.py"}, ""),
        ({"ls-files": "src/.b/a.py\nsrc/dropgpt/new.py"}, "git does not know src/dropgpt/new.py"),
    ],
)
def test_what_an_experiment_would_be_lost_by_is_told_before_it_is_run(
    attempt: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, said: dict[str, str], told: str
) -> None:
    monkeypatch.setattr(try_, "_git", lambda command, *_: said.get(command, ""))
    status, lines, made = attempt(*CHANGE, "--seeds", "2")
    assert (status, len(made)) == ((2, 0) if told else (3, 4))
    assert told in lines[-1]


def test_a_change_that_stands_in_params_yaml_already_is_told_as_such(
    attempt: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(try_, "_git", lambda command, *_: "params.yaml" * (command == "diff"))
    _, lines, _ = attempt("-S", "model.dropout=0.1")
    assert lines[-1].endswith("may say so already: `git diff params.yaml`")


def test_after_a_failure_the_same_command_goes_on(attempt: Callable[..., Any]) -> None:
    assert attempt(*CHANGE, fails=0)[0] == 2  # what params.yaml says fails, too
    status, lines, made = attempt(*CHANGE, effect=-1, fails=3)
    assert status == 4
    assert lines[-1].startswith(
        "error: try: `dvc exp run --temp -S model.dropout=0.3 -S train.seed=2`"
    )
    assert lines[-1].endswith(
        "has failed, as is told above; once that is mended, the same command goes on"
    )
    assert len(made) == 3
    status, lines, more = attempt(*CHANGE, effect=-1)
    assert status == 0
    assert not {*made} & {*more}


def test_a_commit_meanwhile_is_told(
    attempt: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = iter(["", "a" * 40, "b" * 40])
    monkeypatch.setattr(
        try_, "_git", lambda command, *_: next(heads) if command == "rev-parse" else ""
    )
    monkeypatch.setattr(try_, "_among", lambda expected, known: [])
    _, lines, made = attempt(*CHANGE)
    assert "HEAD has moved from aaaaaaaaaa to bbbbbbbbbb while it ran" in lines[-1]
    assert len(made) == 1


def test_held_out_texts_are_the_same_in_both(attempt: Callable[..., Any]) -> None:
    status, lines, made = attempt("-S", "tokenize.validation_fraction=0.5")
    assert (status, made) == (2, [])
    assert "tokenize.validation_fraction has to be the same in both" in lines[-1]


def test_results_of_other_texts_do_not_count(attempt: Callable[..., Any]) -> None:
    """Those of other data parameters are run again; where files have changed, it is told."""
    own = ["-S", "data.source=files", "-S"]
    attempt(*own, "data.files=corpora/a.txt", "--seeds", "2")
    assert len(attempt(*CHANGE, "--seeds", "2")[2]) == 2  # its baseline is there
    assert len(attempt(*own, "data.files=corpora/b.txt", *CHANGE, "--seeds", "2")[2]) == 2
    status, lines, made = attempt("-S", "model.dropout=0.4", "--seeds", "2", corpus="more")
    assert (status, len(made), len(lines)) == (2, 1, 1)
    assert "were trained on other texts, with the same data: files have changed" in lines[0]


@pytest.mark.parametrize("change", ["tokenize.vocabulary_size=300", "data.source=files"])
def test_texts_that_changed_do_not_count_where_the_tokens_differ(
    attempt: Callable[..., Any], change: str
) -> None:
    attempt("-S", change, "--seeds", "2", fails=3)
    status, lines, made = attempt("-S", change, "--seeds", "2", corpus="more")
    assert (status, len(made)) == (2, 1)
    assert "were trained on other texts, with the same data: files have changed" in lines[-1]


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", ["params", "code"])
def test_an_edit_meanwhile_stops_it(
    attempt: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    when: str,
    number: int,
) -> None:
    """Or a run of before it would be judged beside one of after it. Put back, it goes on."""
    monkeypatch.chdir(tmp_path)
    params = Path("params.yaml")
    before = (ROOT / params).read_text()
    params.write_text(before)

    def edit(*now: object) -> None:
        if now == (number, when):
            params.write_text(before.replace("learning_rate: 3e-3", "learning_rate: 2e-3"))
            if what == "code":
                params.write_text(before)
                monkeypatch.setattr(provenance, "code", lambda stage: "another")

    status, lines, made = attempt(*CHANGE, "--seeds", "2", edit=edit)
    told = {"params": "train.learning_rate 0.003 -> 0.002: ", "code": "the code -> another; "}
    assert (status, len(made)) == (2, number + 1)
    assert "params.yaml or the code was edited meanwhile: " in lines[-1]
    assert told[what] in lines[-1]
    params.write_text(before)
    monkeypatch.setattr(provenance, "code", lambda stage: "the code")
    again = attempt(*CHANGE, "--seeds", "2")
    assert (again[0], len(again[2])) == (3, 4 - number - (when == "after"))


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["-S", "model.dropuot=0.3"], "model.dropuot=0.3: Could not override"),
        (["-S", "model.dropout=often"], "params.yaml: model.dropout is 'often'"),
        (["-S", "model.dropout=0.1,0.2"], "0.1,0.2 is more than one value: give one of them"),
        (["-S", "model.dropout=0.1"], "changes nothing that a loss could show"),
        (["-S", "runtime.threads=1"], "changes nothing that a loss could show"),
        (
            ["-S", "train.dropout_switch_step=2"],
            "loss could show: train.dropout_switch_step is without effect, since train",
        ),
        (["-S", "train.seed=7"], "train.seed has to be the same in both"),
        (["-S", "evaluate.stride=32"], "evaluate.stride has to be the same in both"),
        (["-S", "evaluate.model=pretrained/gpt2"], "of a model from elsewhere"),
        ([*CHANGE, "--seeds", "1"], "--seeds 1: it takes 2 to 20"),
        ([*CHANGE, "--tries", "-1"], "--tries -1 is below 0"),
    ],
)
def test_mistakes_are_told_in_a_line(
    attempt: Callable[..., Any], arguments: list[str], why: str
) -> None:
    status, lines, made = attempt(*arguments)
    assert (status, len(lines), made) == (2, 1, [])
    assert why in lines[0]


def test_outside_of_a_repository_it_says_what_git_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"try: `git rev-parse .*`: fatal: not a git repository"):
        try_.run(["model.dropout=0.3"], seeds=2, tries=0)


@pytest.mark.slow
def test_a_try_that_was_killed_goes_on(clone: Clone) -> None:
    """With the real DVC; what lies in the folder stays as it was."""
    clone.dvc("exp", "remove", "--all-commits")
    before = clone.stamps()
    command = [DROPGPT, "try", "-S", "train.learning_rate=0.5", "--seeds", "2"]
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):  # to it alone
        if signal.getsignal(number) is signal.SIG_IGN:
            continue  # these tests were started with nohup, and so are their processes
        alone = subprocess.Popen(
            command, cwd=clone.folder, env=environment(), stderr=subprocess.PIPE, text=True
        )
        wait_for(clone.processes)
        below = psutil.Process(alone.pid).children(recursive=True)
        alone.send_signal(number)
        said = alone.communicate()[1].splitlines()
        assert alone.returncode == 128 + number
        assert said[-1] == f"try: stopped by {number.name}; the same command goes on"
        assert len(below) >= 2  # DVC and its stage
        assert [p for p in below if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
        assert clone.processes() == []
    first = subprocess.Popen(command, cwd=clone.folder, env=environment(), start_new_session=True)
    wait_for(clone.processes)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    done = subprocess.run(
        command, cwd=clone.folder, env=environment(), capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    verdict = lines[-1].removeprefix("train.learning_rate=0.5: ").partition(",")[0]
    assert done.returncode == {"better": 0, "worse": 1, "cannot tell": 3}[verdict]
    again = subprocess.run(
        command, cwd=clone.folder, env=environment(), capture_output=True, text=True
    )
    assert (again.stdout, again.stderr) == (done.stdout, "")
    assert clone.stamps() == before
    assert clone.git("status", "--short").stdout == ""
    groups = json.loads(clone.dropgpt("compare", "--json"))["groups"]
    assert [group["seeds"] for group in groups] == [2, 2]
