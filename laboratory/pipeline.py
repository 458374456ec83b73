"""The laboratory's dvc.yaml, and what DVC says of it."""

import subprocess
import sys
from pathlib import Path

from dropgpt.errors import UserError
from laboratory.plan import Plan

PIPELINE = Path("laboratory/dvc.yaml")


def stage(chosen: Plan, variant: str, seed: int) -> str:
    """The name in the pipeline of the stage that makes this run."""
    return f"{chosen.group(variant)}@{variant}-{seed}"


def repro(name: str = "") -> None:
    """With its output where the user sees it."""
    target = f"{PIPELINE}:{name}" if name else PIPELINE.as_posix()
    if subprocess.run([sys.executable, "-m", "dvc", "repro", target]).returncode:
        raise UserError(f"laboratory: `dvc repro {target}` failed, as it says above")


def dvc(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"laboratory: `dvc {' '.join(arguments)}` failed: {reason(done.stderr)}")
    return done.stdout


def reason(said: str) -> str:
    """The line in which a program says why it failed, or its last one."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("error: ", "ERROR: "))]
    return (errors or lines or ["it said nothing"])[0 if errors else -1]
