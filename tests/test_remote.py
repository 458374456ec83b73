"""What a clone of the repository gets from a remote of DVC's, without any credentials."""

import sys
from pathlib import Path

import pytest

from clone import Clone, stages_run

FILES = {"config.json", "model.safetensors", "provenance.json"}  # among others


@pytest.fixture
def pushed(reproduced: Clone, tmp_path: Path) -> Clone:
    """A project whose results are in a remote, a folder."""
    origin = reproduced.copy(tmp_path / "origin")
    origin.dvc("remote", "add", "--default", "storage", str(tmp_path / "storage"))
    origin.dvc("push")
    origin.commit()
    return origin


def test_a_clone_pulls_and_has_nothing_to_do(pushed: Clone, tmp_path: Path) -> None:
    pushed.git("clone", "--quiet", str(pushed.folder), str(tmp_path / "clone"))
    there = pushed.at(tmp_path / "clone")
    there.dvc("pull")
    assert stages_run(there.dvc("repro")) == []
    assert there.git("status", "--porcelain").stdout == ""
    assert there.bytes() == pushed.bytes()


def test_the_model_comes_by_its_path_and_by_its_name(
    pushed: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "test")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "test@example.org")
    gto = str(Path(sys.executable).with_name("gto"))  # comes with DVC
    pushed.run(gto, "register", "gpt", "--version", "v1.0.0")
    source = str(pushed.folder)
    (tmp_path / "elsewhere").mkdir()
    there = pushed.at(tmp_path / "elsewhere")
    there.git("init", "--quiet")
    there.dvc("init", "--quiet")
    there.dvc("get", source, "models/gpt", "--out", "got")
    there.dvc("import", source, "models/gpt", "--out", "imported")
    there.dvc("artifacts", "get", source, "gpt", "--out", "artifact")
    model = pushed.folder / "models/gpt"
    expected = {file.name: file.read_bytes() for file in model.iterdir()}
    assert expected.keys() >= FILES
    for name in ("got", "imported", "artifact"):
        folder = there.folder / name
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == expected
