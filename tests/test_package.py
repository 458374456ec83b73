"""What pip makes of the project: a wheel that works anywhere, an sdist that can test itself."""

import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from clone import environment, project_files
from conftest import ROOT
from dropgpt.model import artifact
from dropgpt.model.gpt import GPT

pytestmark = pytest.mark.slow

# `dropgpt` of a wheel where there is no DVC, and no git.
ALONE = """
import os, runpy, sys
sys.modules["dvc"] = None
os.environ["PATH"] = ""
runpy.run_module("dropgpt", {}, "__main__")
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of it, since a build leaves folders behind."""
    folder = tmp_path_factory.mktemp("project")
    for name in project_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    return folder


def python(*arguments: str, at: Path, path: Path | None = None) -> str:
    """What Python prints, the code in `path` before all other."""
    variables = environment() | ({"PYTHONPATH": str(path)} if path else {})
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=at, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_wheel_works_anywhere(
    project: Path, make_gpt: Callable[..., GPT], tmp_path: Path
) -> None:
    """It loads a model and writes, measures, and judges: without project, DVC or git."""
    artifact.save(make_gpt(), tmp_path / "model")
    local = ["--no-deps", "--no-build-isolation", "--quiet"]
    python("-m", "pip", "wheel", *local, "--wheel-dir", str(tmp_path), str(project), at=tmp_path)
    (wheel,) = tmp_path.glob("dropgpt-*.whl")
    site = tmp_path / "site"
    python("-m", "pip", "install", *local, "--target", str(site), str(wheel), at=tmp_path)
    assert (site / "dropgpt/py.typed").exists()
    (metadata,) = [d.metadata for d in distributions(path=[str(site)])]
    assert (metadata["License-Expression"], metadata["License-File"]) == ("MIT", "LICENSE")
    code = """
import dropgpt
print(dropgpt.__file__)
print(dropgpt.write(dropgpt.load("model"), "Once upon a time", tokens=3, seed=1))
"""
    where, *text = python("-c", code, at=tmp_path, path=site).splitlines()
    assert where == str(site / "dropgpt/__init__.py")
    write = ["write", "Once upon a time", "--model", "model", "--tokens", "3", "--seed", "1"]
    assert python("-m", "dropgpt", *write, at=tmp_path, path=site).splitlines() == text

    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "a.txt").write_text("One text.<|endoftext|>Another one.")
    alone = ["-c", ALONE]
    for name in ("A.json", "B.json"):
        measure = ["measure", "../model", "a.txt", "--stride", "16", "--output", name]
        printed = python(*alone, *measure, at=empty, path=site)
        assert f"{name}: for `dropgpt compare`" in printed
    assert sorted(path.name for path in empty.iterdir()) == ["A.json", "B.json", "a.txt"]
    (empty / "a.txt").unlink()
    found = json.loads(python(*alone, "compare", "A.json", "B.json", "--json", at=empty, path=site))
    assert [group["bits_per_byte"] for group in found["groups"]] == 2 * [
        found["groups"][0]["bits_per_byte"]
    ]
    assert found["groups"][1]["verdict"] == "cannot tell: one seed"


def test_an_sdist_has_what_git_has_and_can_test_itself(project: Path, tmp_path: Path) -> None:
    build = f"from setuptools.build_meta import build_sdist; build_sdist({str(tmp_path)!r})"
    python("-c", build, at=project)
    (file,) = tmp_path.glob("dropgpt-*.tar.gz")
    with tarfile.open(file) as archive:
        archive.extractall(tmp_path, filter="data")
    unpacked = tmp_path / file.name.removesuffix(".tar.gz")
    inside = {p.relative_to(unpacked).as_posix() for p in unpacked.rglob("*") if p.is_file()}
    assert set(project_files()) - inside == set()
    made = {"PKG-INFO", "setup.cfg"}
    made |= {name for name in inside if name.startswith("src/dropgpt.egg-info/")}
    assert inside - set(project_files()) == made
    some = ["tests/test_params.py", "tests/test_dvc_yaml.py"]
    some += ["tests/laboratory/test_judge.py"]
    some += ["tests/test_pipeline.py::test_everything_is_there_and_adds_up"]  # in a clone of it
    said = python("-m", "pytest", "-q", *some, at=unpacked, path=unpacked / "src")
    assert "passed" in said
    assert "failed" not in said


def test_the_citation_is_of_this_version() -> None:
    citation = YAML(typ="safe").load(ROOT / "CITATION.cff")
    (own,) = [d for d in distributions() if d.name == "dropgpt"][:1]
    assert citation["version"] == own.version
    assert citation["license"] == "MIT"
