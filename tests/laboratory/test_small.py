"""The laboratory as a user runs it, on a plan that is too small to mean anything."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from ruamel.yaml import YAML

from clone import Clone, environment, project_files, stages_run, wait_for
from conftest import ROOT

ROOM = "laboratory/small/"
PLAN = ROOM + "plan.yaml"
VARIANTS: dict[str, dict[str, float]] = {
    "tune-p0": {},
    "p0-short": {},
    "p20-short": {"model.dropout": 0.2},
}
BASE: dict[str, Any] = {
    "tokenize": {"validation_fraction": 0.4},
    "model": {"n_layer": 1, "n_embd": 16, "n_ctx": 16},
    "train": {"tokens": 161, "steps": 5, "batch_size": 2, "warmup_steps": 1},
    "evaluate": {"stride": 16},
}


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    yaml = YAML()
    values = yaml.load(path)
    change(values)
    yaml.dump(values, path)


def make_tiny(plan: Any) -> None:
    plan["documents"] = None
    for section, changes in BASE.items():
        plan["base"][section].update(changes)
    plan["base"]["readings"] = [1, 2]
    rates, *of_map = VARIANTS
    plan["groups"] = {
        "rates": {"seeds": [101], "variants": [rates]},
        "map": {"seeds": [1, 2], "variants": of_map},
    }
    plan["variants"] = VARIANTS


def leave_out(pipeline: Any) -> None:
    for name in set(pipeline["stages"]) - {"prepare", "rates", "map", "page"}:
        del pipeline["stages"][name]


@pytest.fixture(scope="module")
def finished(reproduced: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with a laboratory whose five runs and page have been made and committed."""
    clone = reproduced.copy(tmp_path_factory.mktemp("laboratory") / "clone")
    made = tuple(ROOM + name for name in ("runs/", "setting.json", "variants.json", "dvc.lock"))
    for name in project_files():
        if name.startswith("laboratory/") and not name.startswith(made):
            (clone.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, clone.folder / name)
    edit(clone.folder / PLAN, make_tiny)
    edit(clone.folder / ROOM / "dvc.yaml", leave_out)
    laboratory(clone)
    clone.commit()
    return clone


@pytest.fixture
def clone(finished: Clone, tmp_path: Path) -> Clone:
    return finished.cloned(tmp_path / "clone")


def laboratory(clone: Clone, *arguments: str, ok: bool = True) -> str:
    done = clone.run(sys.executable, "-m", "laboratory", "small", *arguments, ok=ok)
    return done.stdout + done.stderr


def made(clone: Clone) -> dict[str, bytes]:
    files = [*clone.folder.glob(ROOM + "runs/*")]
    files += [clone.folder / name for name in ("RESULTS.md", "docs/map.svg", "docs/worth.svg")]
    return {path.relative_to(clone.folder).as_posix(): path.read_bytes() for path in files}


def test_a_fresh_clone_makes_what_is_missing_and_nothing_else(clone: Clone) -> None:
    """Also where it was killed at that, and DVC while it wrote its lock."""
    first = made(clone)
    assert len({*first.values()}) == 5 + 3
    assert not (clone.folder / ROOM / "tokens").exists()
    assert "up to date" in laboratory(clone)
    when = {path: path.stat().st_mtime_ns for path in clone.folder.glob(ROOM + "runs/*")}
    for name in ("tune-p0-101", "p0-short-1", "p20-short-2"):
        path = clone.folder / f"{ROOM}runs/{name}.json"
        path.unlink()
        del when[path]
    process = subprocess.Popen(
        [sys.executable, "-m", "laboratory", "small"],
        cwd=clone.folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for(lambda: len(list(clone.folder.glob(ROOM + "runs/*.json"))) > len(when))
    wait_for(lambda: "laboratory.run" in str(commands(process.pid)))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    lock = ROOM + "dvc.lock"
    whole = clone.git("show", f"HEAD:{lock}").stdout
    (clone.folder / lock).write_text(whole[: whole.rindex("  prepare:")])
    assert "is torn, as by a kill" in laboratory(clone)
    assert made(clone) == first
    assert all(path.stat().st_mtime_ns == before for path, before in when.items())
    assert clone.git("status", "--porcelain").stdout == ""


def test_the_pages_main_table_is_recomputed_from_the_files_alone(clone: Clone) -> None:
    recompute = ROOT / "tests/laboratory/recompute.py"
    again = clone.run(sys.executable, str(recompute), ROOM).stdout
    assert again.count("\n") == 2
    assert again in (clone.folder / "RESULTS.md").read_text()
    assert len(recompute.read_text().splitlines()) <= 100


def test_so_is_that_of_the_page_that_readers_see() -> None:
    command = [sys.executable, "tests/laboratory/recompute.py", "laboratory/small"]
    again = subprocess.check_output(command, cwd=ROOT, text=True)
    assert again.count("\n") >= 8
    assert again in (ROOT / "RESULTS.md").read_text()


def test_without_all_runs_of_the_map_there_is_no_page(clone: Clone) -> None:
    (clone.folder / ROOM / "runs/p0-short-1.json").unlink()
    done = clone.run(sys.executable, "-m", "laboratory.page", "small", ok=False)
    assert done.stderr == (
        "error: laboratory: 1 of 4 runs of the group map not made yet, as "
        "laboratory/small/runs/p0-short-1.json: `python -m laboratory small` makes them\n"
    )
    done = clone.run(sys.executable, "-m", "laboratory.simulate", "small", ok=False)
    assert done.stderr.startswith("error: laboratory: no claim's group is complete")


def test_dvc_demands_nothing_of_it_from_those_who_do_not_use_it(
    finished: Clone, clone: Clone, tmp_path: Path
) -> None:
    """DVC's commands take in every pipeline below the root, where they are given no target."""
    everyday = (["status"], ["checkout"], ["repro"], ["fetch"], ["push"], ["gc", "-w", "--force"])
    missing = re.compile("not found|missing|laboratory|ERROR")
    made = finished.copy(tmp_path / "made")
    shutil.rmtree(made.folder / ROOM / "tokens")
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


def test_a_run_is_of_its_setting_or_none(finished: Clone, clone: Clone) -> None:
    (clone.folder / "data").mkdir()
    shutil.copy(finished.folder / "data/documents.parquet", clone.folder / "data")
    plan = (clone.folder / PLAN).read_bytes()
    changes: tuple[Callable[[Any], Any], ...] = (
        lambda plan: plan.update({"documents": "0"}),
        lambda plan: plan["base"]["train"].update({"beta1": 0.8}),
    )
    for change in changes:
        (clone.folder / PLAN).write_bytes(plan)
        edit(clone.folder / PLAN, change)
        run = [sys.executable, "-m", "laboratory.run", "small", "p0-short", "1"]
        said = clone.run(*run, ok=False).stderr
        assert "is not what laboratory/small/setting.json was made of" in said
    (clone.folder / PLAN).write_bytes(plan)
    with (clone.folder / "src/dropgpt/randomness.py").open("a") as code:
        code.write("\n")
    said = clone.run(*run, ok=False).stderr
    assert "is not what laboratory/small/setting.json was made of" in said


def test_a_run_whose_plan_was_edited_meanwhile_is_not_taken_for_one_of_it(
    finished: Clone, clone: Clone
) -> None:
    shutil.copytree(finished.folder / "data", clone.folder / "data")

    def set_to(dropout: float) -> None:
        changes = {"model.dropout": dropout, "readings": [60]}
        edit(clone.folder / PLAN, lambda plan: plan["variants"]["p20-short"].update(changes))

    before = made(clone)
    set_to(0.2)
    repro = ("repro", f"{ROOM}dvc.yaml:map@p20-short-1")
    dvc = clone.start(*repro)
    wait_for(lambda: [*(clone.folder / "checkpoints").glob("*.lock")])
    set_to(0.5)
    output = dvc.communicate(timeout=300)[0]
    assert dvc.returncode != 0
    assert f"error: laboratory: {PLAN}: variants.p20-short changed while it ran" in output
    assert made(clone) == before  # its last result, of the plan before
    clone.dvc(*repro)
    found = clone.json(f"{ROOM}runs/p20-short-1.json")["made_by"]["params"]
    assert found["model"]["dropout"] == 0.5


def test_a_run_that_fails_leaves_what_was_there(clone: Clone) -> None:
    """Its dvc.yaml is not beside it, and DVC clears its file away before it runs."""
    run = clone.folder / ROOM / "runs/p20-short-2.json"
    clone.commit()
    before = run.read_bytes()
    edit(clone.folder / "params.yaml", lambda params: params["model"].update(n_layer=0))
    said = clone.dvc(
        "repro", "--force", "--single-item", f"{ROOM}dvc.yaml:map@p20-short-2", ok=False
    )
    assert "params.yaml: model.n_layer is 0" in said
    assert "not all back" not in said
    assert run.read_bytes() == before


def test_a_group_without_a_stage_is_named(clone: Clone) -> None:
    def add(plan: Any) -> None:
        plan["variants"]["p30-short"] = {"model.dropout": 0.3}
        plan["groups"]["mine"] = {"seeds": [1, 2], "variants": ["p30-short"]}

    edit(clone.folder / PLAN, add)
    said = laboratory(clone, ok=False).splitlines()[-1]
    assert said.startswith(f"error: {ROOM}dvc.yaml: the plan's group mine has no stage here")


@pytest.mark.slow
def test_a_variant_more_is_its_runs_more(clone: Clone) -> None:
    before = made(clone)

    def add(plan: Any) -> None:
        plan["variants"]["p30-short"] = {"model.dropout": 0.3}
        plan["groups"]["map"]["variants"].append("p30-short")

    edit(clone.folder / PLAN, add)
    laboratory(clone)
    after = made(clone)
    assert set(after) - set(before) == {f"{ROOM}runs/p30-short-{seed}.json" for seed in (1, 2)}
    assert all(after[name] == content for name, content in before.items() if "runs/" in name)
    assert b"p 0.3" in after["RESULTS.md"]


@pytest.mark.slow
def test_a_run_that_fails_is_told_in_a_line_and_the_others_are_made(clone: Clone) -> None:
    change = {"train.tokens": 10**9 + 1, "train.steps": 10**9 // 32}
    edit(clone.folder / PLAN, lambda p: p["variants"]["p20-short"].update(change))
    output = laboratory(clone, ok=False)
    assert "Traceback" not in output
    assert "map@p20-short-1: error: laboratory: train.tokens is 1000000001, and there" in output
    assert output.splitlines()[-1].startswith(
        "error: laboratory: 2 runs failed; the first, map@p20"
    )


@pytest.mark.slow
def test_a_change_of_the_code_that_changes_no_number_is_taken_over(clone: Clone) -> None:
    """Where some runs come out the same; those made anew by it have the same bytes, too."""
    first = made(clone)
    with (clone.folder / "src/dropgpt/model/gpt.py").open("a") as file:
        file.write("# The same, by another word.\n")
    missing = clone.folder / ROOM / "runs/p20-short-2.json"
    missing.unlink()
    checked = laboratory(clone, "--take-over")
    assert checked.count(": the same") == 3
    assert "4 runs taken over" in checked
    assert "map@p0-short-1" not in clone.dvc("status", ROOM + "dvc.yaml")
    assert "0 of 1 runs" in laboratory(clone)
    assert "up to date" in laboratory(clone)
    assert made(clone) == first


def test_a_run_that_was_edited_is_not_taken_over(clone: Clone) -> None:
    """DVC would commit whatever is there."""
    run = clone.folder / ROOM / "runs/p20-short-2.json"
    run.write_text(run.read_text().replace('"training": ', '"training": 1'))
    said = laboratory(clone, "--take-over", ok=False)
    assert "runs/p20-short-2.json is not as its run wrote it, by laboratory/small/dvc.lock" in said
    assert "the same" not in said


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"made_by": '])
def test_a_torn_run_is_told_in_a_line(clone: Clone, content: str) -> None:
    (clone.folder / ROOM / "runs/p20-short-2.json").write_text(content)
    for module in ("page", "simulate"):
        command = [sys.executable, "-m", f"laboratory.{module}", "small"]
        assert clone.run(*command, ok=False).stderr.startswith(
            "error: laboratory: laboratory/small/runs/p20-short-2.json is torn, or no run has"
        )


def test_a_map_without_no_dropout_is_told_before_any_run(clone: Clone) -> None:
    def to(plan: Any) -> None:
        plan["variants"]["p10-short"] = plan["variants"].pop("p0-short") | {"model.dropout": 0.1}
        plan["groups"]["map"]["variants"][0] = "p10-short"

    edit(clone.folder / PLAN, to)
    assert laboratory(clone, ok=False) == (
        "error: laboratory: the plan's group map has the rates 0.1, 0.2: it needs p 0, and each "
        "only once; other settings go into a group of their own\n"
    )


def test_a_change_that_changes_numbers_is_noticed(clone: Clone) -> None:
    code = clone.folder / "src/dropgpt/model/gpt.py"
    gelu = "F.gelu(self.c_fc(x), approximate=self.gelu)"
    code.write_text(code.read_text().replace(gelu, "F.relu(self.c_fc(x))"))
    assert "made again, it differs in lengths" in laboratory(clone, "--check", ok=False)


def test_a_size_without_a_plan_is_told_with_those_that_there_are(clone: Clone) -> None:
    done = clone.run(sys.executable, "-m", "laboratory", "large", ok=False)
    assert done.stderr == (
        "error: laboratory/large/plan.yaml: no such plan; there are those of: small\n"
    )


@pytest.mark.slow
def test_runs_of_other_machines_are_not_made_again(clone: Clone) -> None:
    """They would have other bytes here, which would say nothing of the code."""
    runs = sorted(clone.folder.glob(ROOM + "runs/*.json"))

    def move(path: Path) -> None:
        path.write_text(path.read_text().replace('"device": "cpu: ', '"device": "cpu: Another '))

    for path in runs[1:]:
        move(path)
    found = laboratory(clone, "--check")
    assert found.count(": the same") == 1
    assert runs[0].name in found
    move(runs[0])
    assert "of 5 runs none was made on" in laboratory(clone, "--check", ok=False)


@pytest.mark.slow
def test_a_run_of_another_plan_is_not_taken_over(clone: Clone) -> None:
    change = {"train.learning_rate": 0.01}
    edit(clone.folder / PLAN, lambda p: p["variants"]["p20-short"].update(change))
    assert "3 runs taken over" in laboratory(clone, "--take-over")
    assert "map@p20-short-1" in clone.dvc("status", ROOM + "dvc.yaml")


@pytest.mark.slow
def test_a_run_with_more_lengths_than_the_plan_has_is_taken_over(clone: Clone) -> None:
    before = made(clone)
    edit(clone.folder / PLAN, lambda p: p["variants"]["p20-short"].update(readings=[2]))
    assert PLAN in clone.dvc("status", ROOM + "dvc.yaml")  # the runs, when `prepare` has run
    assert "5 runs taken over" in laboratory(clone, "--take-over")
    assert "map@p20-short-1" not in clone.dvc("status", ROOM + "dvc.yaml")
    after = made(clone)
    assert all(after[name] == content for name, content in before.items() if "runs/" in name)


def commands(pid: int) -> list[list[str]]:
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.Error):  # it may just have ended
            found.append(child.cmdline())
    return found
