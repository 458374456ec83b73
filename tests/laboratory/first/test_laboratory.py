"""The laboratory as a user runs it, on a plan that is too small to mean anything."""

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from ruamel.yaml import YAML

from clone import Clone, environment, project_files, stages_run, wait_for
from conftest import ROOT

ROOM = "laboratory/first/"
GROUPS = {
    "map": {"seeds": [1, 2], "variants": ["p0", "p20"]},
    "sites": {"seeds": [1, 2], "variants": ["only-mlp"]},
}
TINY: dict[str, dict[str, Any]] = {
    "tokenize": {"validation_fraction": 0.2},
    "model": {"n_layer": 1, "n_embd": 16, "n_ctx": 16},
    "train": {
        "tokens": 161,
        "steps": 10,
        "batch_size": 2,
        "warmup_steps": 1,
        "validation_interval": 5,
        "validation_windows": 2,
    },
    "evaluate": {"stride": 16, "dropout_passes": 2},
}


def edit(path: Path, change: Any) -> None:
    yaml = YAML()
    values = yaml.load(path)
    change(values)
    yaml.dump(values, path)


def make_tiny(plan: Any) -> None:
    plan["documents"] = None
    for section, changes in TINY.items():
        plan["base"][section].update(changes)
    plan["groups"] = GROUPS
    named = [name for group in GROUPS.values() for name in group["variants"]]
    plan["variants"] = {name: dict(plan["variants"][name]) for name in named}
    plan["variants"]["only-mlp"]["train.steps"] = 10


def leave_out(pipeline: Any) -> None:
    for name in set(pipeline["stages"]) - {"prepare", "judge", *GROUPS}:
        del pipeline["stages"][name]


@pytest.fixture(scope="module")
def finished(reproduced: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with a laboratory whose six runs have been made and committed."""
    clone = reproduced.copy(tmp_path_factory.mktemp("laboratory") / "clone")
    made = tuple(ROOM + name for name in ("runs/", "setting.json", "dvc.lock"))
    for name in project_files():
        shared = Path(name).parent == Path("laboratory")
        if (shared or name.startswith(ROOM)) and not name.startswith(made):
            (clone.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, clone.folder / name)
    edit(clone.folder / "laboratory/first/plan.yaml", make_tiny)
    edit(clone.folder / "laboratory/first/dvc.yaml", leave_out)
    laboratory(clone)
    clone.commit()
    return clone


@pytest.fixture
def clone(finished: Clone, tmp_path: Path) -> Clone:
    return finished.cloned(tmp_path / "clone")


def laboratory(clone: Clone, module: str = "laboratory.first", ok: bool = True) -> str:
    done = clone.run(sys.executable, "-m", module, ok=ok)
    return done.stdout + done.stderr


def made(clone: Clone) -> dict[str, bytes]:
    files = [
        *clone.folder.glob("laboratory/first/runs/*"),
        *(clone.folder / name for name in ("RESULTS.md", "docs/map.svg", "docs/effects.svg")),
    ]
    return {path.relative_to(clone.folder).as_posix(): path.read_bytes() for path in files}


def test_a_fresh_clone_makes_what_is_missing_and_nothing_else(clone: Clone) -> None:
    """Also where it was killed at that, and DVC while it wrote its lock."""
    first = made(clone)
    assert len(first) == 6 + 3
    assert not (clone.folder / "laboratory/first/tokens").exists()
    assert "up to date" in laboratory(clone)
    when = {path: path.stat().st_mtime_ns for path in clone.folder.glob("laboratory/first/runs/*")}
    for name in ("p0-1", "p20-2", "only-mlp-1"):
        path = clone.folder / f"laboratory/first/runs/{name}.json"
        path.unlink()
        del when[path]
    process = subprocess.Popen(
        [sys.executable, "-m", "laboratory.first"],
        cwd=clone.folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for(lambda: len(list(clone.folder.glob("laboratory/first/runs/*.json"))) > len(when))
    wait_for(lambda: "laboratory.first.run" in str(commands(process.pid)))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    lock = "laboratory/first/dvc.lock"
    whole = clone.git("show", f"HEAD:{lock}").stdout
    (clone.folder / lock).write_text(whole[: whole.rindex("  judge:")])
    assert "is torn, as by a kill" in laboratory(clone)
    assert made(clone) == first
    assert all(path.stat().st_mtime_ns == before for path, before in when.items())
    assert clone.git("status", "--porcelain").stdout == ""


def test_dvc_demands_nothing_of_it_from_those_who_do_not_use_it(
    finished: Clone, clone: Clone, tmp_path: Path
) -> None:
    """DVC's commands take in every pipeline below the root, where they are given no target."""
    everyday = (["status"], ["checkout"], ["repro"], ["fetch"], ["push"], ["gc", "-w", "--force"])
    missing = re.compile("not found|missing|laboratory|ERROR")
    made = finished.copy(tmp_path / "made")
    shutil.rmtree(made.folder / "laboratory/first/tokens")
    made.dvc("remote", "add", "--default", "storage", str(tmp_path / "storage"))
    for command in everyday:
        told = made.dvc(*command)
        assert not missing.search(told), command
        assert stages_run(told) == []
    assert "up to date" in made.dvc("status")
    made.commit()

    clone.git("pull", "--quiet", str(made.folder))
    assert "laboratory" not in clone.dvc("checkout", ok=False)  # of what is neither made nor pulled
    clone.dvc("pull")
    for command in everyday:
        assert not missing.search(clone.dvc(*command)), command
    assert clone.bytes() == made.bytes()
    assert clone.git("status", "--porcelain").stdout == ""


def test_a_run_has_no_tokens_but_those_of_its_setting(finished: Clone, clone: Clone) -> None:
    (clone.folder / "data").mkdir()
    shutil.copy(finished.folder / "data/documents.parquet", clone.folder / "data")
    edit(clone.folder / "laboratory/first/plan.yaml", lambda plan: plan.update({"documents": "0"}))
    run = [sys.executable, "-m", "laboratory.first.run", "p0", "1"]
    said = clone.run(*run, ok=False).stderr
    assert "is not what laboratory/first/setting.json was made of" in said


@pytest.mark.slow
def test_a_variant_more_is_its_runs_more(clone: Clone) -> None:
    before = made(clone)

    def add(plan: Any) -> None:
        plan["variants"]["p30"] = {"model.dropout": 0.3}
        plan["groups"]["map"]["variants"].append("p30")

    edit(clone.folder / "laboratory/first/plan.yaml", add)
    laboratory(clone)
    after = made(clone)
    new = {f"laboratory/first/runs/p30-{seed}.json" for seed in (1, 2)}
    assert set(after) - set(before) == new
    assert all(after[name] == content for name, content in before.items() if "runs/" in name)
    assert b"p 0.3" in after["RESULTS.md"]


@pytest.mark.slow
def test_a_run_that_fails_is_told_in_a_line_and_the_others_are_made(clone: Clone) -> None:
    plan = clone.folder / "laboratory/first/plan.yaml"
    edit(plan, lambda p: p["variants"]["p20"].update({"train.tokens": 10**9}))
    output = laboratory(clone, ok=False)
    assert "Traceback" not in output
    assert "laboratory: map@p20-1: error: params.yaml: train.tokens is 1000000000" in output
    assert output.splitlines()[-1].startswith(
        "error: laboratory: 2 runs failed; the first, map@p20"
    )


@pytest.mark.slow
def test_a_change_of_the_code_that_changes_no_number_is_taken_over(clone: Clone) -> None:
    """Where some runs come out the same; RESULTS.md then says so."""
    first = made(clone)
    with (clone.folder / "src/dropgpt/model/gpt.py").open("a") as file:
        file.write("# The same, by another word.\n")
    missing = clone.folder / "laboratory/first/runs/p20-2.json"
    missing.unlink()
    checked = clone.run(sys.executable, "-m", "laboratory.first.check", "--take-over").stdout
    assert checked.count(": the same") == 3
    assert "5 runs taken over" in checked
    assert "map@p20-1" not in clone.dvc("status", "laboratory/first/dvc.yaml")
    assert "0 of 1 runs" in laboratory(clone)
    assert "up to date" in laboratory(clone)
    found = made(clone)
    assert b"5 of them were made by earlier code and taken over" in found.pop("RESULTS.md")
    del found["laboratory/first/runs/p20-2.json"]  # it says which code made it
    assert found == {name: content for name, content in first.items() if name in found}


def test_a_change_that_changes_numbers_is_noticed(clone: Clone) -> None:
    code = clone.folder / "src/dropgpt/model/gpt.py"
    gelu = "F.gelu(self.c_fc(x), approximate=self.gelu)"
    assert gelu in code.read_text()
    code.write_text(code.read_text().replace(gelu, "F.relu(self.c_fc(x))"))
    assert "made again, it differs in " in laboratory(clone, "laboratory.first.check", ok=False)


@pytest.mark.slow
def test_runs_of_other_machines_are_not_made_again(clone: Clone) -> None:
    """They would have other bytes here, which would say nothing of the code."""
    runs = sorted(clone.folder.glob("laboratory/first/runs/*.json"))

    def move(path: Path) -> None:
        path.write_text(path.read_text().replace('"device": "cpu: ', '"device": "cpu: Another '))

    for path in runs[1:]:
        move(path)
    found = laboratory(clone, "laboratory.first.check")
    assert found.count(": the same") == 1
    assert runs[0].name in found
    move(runs[0])
    assert "of 6 runs none was made on" in laboratory(clone, "laboratory.first.check", ok=False)


@pytest.mark.slow
def test_a_run_of_another_plan_is_not_taken_over(clone: Clone) -> None:
    plan = clone.folder / "laboratory/first/plan.yaml"
    edit(plan, lambda p: p["variants"]["p20"].update({"train.learning_rate": 0.01}))
    checked = clone.run(sys.executable, "-m", "laboratory.first.check", "--take-over").stdout
    assert "4 runs taken over" in checked
    assert "map@p20-1" in clone.dvc("status", "laboratory/first/dvc.yaml")


def commands(pid: int) -> list[list[str]]:
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.Error):  # it may just have ended
            found.append(child.cmdline())
    return found
