"""Where `make` leads a new user."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT, needs_ctrl_c


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The Makefile, with a Python that does nothing and all that it installs installed."""
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    made = (".venv/bin/python", ".venv/made", ".venv/dropgpt")
    for name in ("pyproject.toml", "constraints.txt", *made):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("#!/bin/sh\n")
    (tmp_path / ".venv/bin/python").chmod(0o755)
    return tmp_path


def make(folder: Path, *arguments: str, **variables: str) -> str:
    done = subprocess.run(
        ["make", *arguments], cwd=folder, env=os.environ | variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_venv_that_could_not_be_made_is_not_taken_for_one(tmp_path: Path) -> None:
    """Debian's Python without python3-venv leaves a folder and fails."""
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nmkdir -p .venv/bin\nexit 1\n")
    broken.chmod(0o755)
    command = ["make", ".venv/made", f"PYTHON={broken}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True)
    assert done.returncode != 0
    assert not (tmp_path / ".venv").exists()


@needs_ctrl_c
def test_a_venv_that_was_interrupted_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\nmkdir -p .venv/bin\ntest -e again && exit\nkill -INT 0\nsleep 9\n"
    )
    python.chmod(0o755)
    command = ["make", ".venv/made", f"PYTHON={python}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, start_new_session=True)
    assert done.returncode != 0
    assert (tmp_path / ".venv/bin").is_dir()
    (tmp_path / "again").touch()
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / ".venv/made").exists()


def test_every_program_is_that_of_the_venv_whatever_path_make_looks_in() -> None:
    recipes = re.findall(r"^\t@?(\S+)", (ROOT / "Makefile").read_text(), re.M)
    assert {*recipes} <= {"$(BIN)/python", "$(BIN)/dvc", "$(BIN)/ruff", "$(BIN)/mypy"} | {
        "$(PYTHON)",
        "awk",
        "test",
        "echo",
        "touch",
    }


def test_after_make_repro_a_new_user_learns_where_the_commands_are(folder: Path) -> None:
    assert "source .venv/bin/activate" in make(folder, "repro", VIRTUAL_ENV="")
    active = make(folder, "repro", VIRTUAL_ENV=str(folder / ".venv"))
    assert "activate" not in active
