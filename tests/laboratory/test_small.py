"""The laboratory as a user runs it, on a plan that is too small to mean anything."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from clone import Clone, project_files
from conftest import ROOT

ROOM = "laboratory/small/"
VARIANTS = {"tune-p0": {}, "p0-short": {}, "p20-short": {"model.dropout": 0.2}}
BASE: dict[str, Any] = {
    "tokenize": {"validation_fraction": 0.4},
    "model": {"n_layer": 1, "n_embd": 16, "n_ctx": 16},
    "train": {"tokens": 161, "steps": 5, "batch_size": 2, "warmup_steps": 1},
    "evaluate": {"stride": 16},
}


def make_tiny(folder: Path) -> None:
    yaml = YAML()
    plan = yaml.load(folder / ROOM / "plan.yaml")
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
    yaml.dump(plan, folder / ROOM / "plan.yaml")


@pytest.fixture(scope="module")
def finished(reproduced: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with a laboratory whose five runs have been made and committed."""
    clone = reproduced.copy(tmp_path_factory.mktemp("laboratory") / "clone")
    made = tuple(ROOM + name for name in ("runs/", "setting.json", "dvc.lock"))
    first = "laboratory/first/"
    for name in project_files():
        if name.startswith("laboratory/") and not name.startswith((*made, first)):
            (clone.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, clone.folder / name)
    make_tiny(clone.folder)
    laboratory(clone)
    clone.commit()
    return clone


@pytest.fixture
def clone(finished: Clone, tmp_path: Path) -> Clone:
    return finished.cloned(tmp_path / "clone")


def laboratory(clone: Clone, *arguments: str, ok: bool = True) -> str:
    done = clone.run(sys.executable, "-m", "laboratory", "small", *arguments, ok=ok)
    return done.stdout + done.stderr


def runs(clone: Clone) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in clone.folder.glob(ROOM + "runs/*")}


def test_a_fresh_clone_makes_what_is_missing_in_the_same_bytes(clone: Clone) -> None:
    first = runs(clone)
    assert len(first) == 5
    assert len({*first.values()}) == 5
    (clone.folder / ROOM / "runs/p20-short-2.json").unlink()
    assert "1 of 1 runs" in laboratory(clone)
    assert runs(clone) == first
    assert "up to date" in laboratory(clone)


@pytest.mark.slow
def test_a_change_of_the_code_that_changes_no_number_is_taken_over(clone: Clone) -> None:
    with (clone.folder / "src/dropgpt/model/gpt.py").open("a") as file:
        file.write("# The same, by another word.\n")
    checked = laboratory(clone, "--take-over")
    assert checked.count(": the same") == 3
    assert "5 runs taken over" in checked
    assert "map@p0-short-1" not in clone.dvc("status", ROOM + "dvc.yaml")


def test_a_change_that_changes_numbers_is_noticed(clone: Clone) -> None:
    code = clone.folder / "src/dropgpt/model/gpt.py"
    gelu = "F.gelu(self.c_fc(x), approximate=self.gelu)"
    code.write_text(code.read_text().replace(gelu, "F.relu(self.c_fc(x))"))
    assert "made again, it differs in lengths" in laboratory(clone, "--check", ok=False)


def test_the_page_is_written_and_its_main_table_recomputed_from_the_files(clone: Clone) -> None:
    assert (
        "small/results.md and" in clone.run(sys.executable, "-m", "laboratory.page", "small").stdout
    )
    page = (clone.folder / ROOM / "results.md").read_text()
    recompute = ROOT / "tests/laboratory/recompute.py"
    again = clone.run(sys.executable, str(recompute), ROOM).stdout.splitlines()
    assert len(again) == 2
    assert "\n".join(again) in page
    assert len(recompute.read_text().splitlines()) <= 100
    assert "<svg" in (clone.folder / ROOM / "map.svg").read_text()


def test_without_all_runs_of_the_map_there_is_no_page(clone: Clone) -> None:
    (clone.folder / ROOM / "runs/p0-short-1.json").unlink()
    done = clone.run(sys.executable, "-m", "laboratory.page", "small", ok=False)
    assert done.stderr == (
        "error: laboratory: 1 of 4 runs of the group map not made yet, as "
        "laboratory/small/runs/p0-short-1.json: `python -m laboratory small` makes them\n"
    )
    done = clone.run(sys.executable, "-m", "laboratory.simulate", "small", ok=False)
    assert done.stderr.startswith("error: laboratory: no claim's group is complete")


def test_a_size_without_a_plan_is_told_with_those_that_there_are(clone: Clone) -> None:
    done = clone.run(sys.executable, "-m", "laboratory", "large", ok=False)
    assert done.stderr == (
        "error: laboratory/large/plan.yaml: no such plan; there are those of: small\n"
    )
