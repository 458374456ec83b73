"""The laboratory's dvc.yaml, and what DVC says of it."""

import shutil
import subprocess
import sys
from pathlib import Path

from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from voluptuous import Invalid

from dropgpt.errors import UserError
from dropgpt.machine.files import replacing
from laboratory.plan import Plan

PIPELINE = Path("laboratory/dvc.yaml")
LOCK = Path("laboratory/dvc.lock")
KEPT = Path(".dvc/tmp/laboratory.lock")  # LOCK as it was when last seen whole


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


def keep_lock() -> None:
    """Keep a copy of LOCK: a `kill -9` may leave DVC's torn, and all that it says were lost."""
    if whole(LOCK):
        with replacing(KEPT) as partial:
            shutil.copyfile(LOCK, partial)


def mend_lock() -> None:
    """Where LOCK is torn, put the copy in its place; then only runs since are made again."""
    if LOCK.exists() and not whole(LOCK) and whole(KEPT):
        print(f"{LOCK} is torn, as by a kill: its last whole state is back", file=sys.stderr)
        shutil.copyfile(KEPT, LOCK)


def whole(lock: Path) -> bool:
    """Whether it is there, and DVC would read it."""
    try:
        COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(lock))
    except (OSError, YAMLError, Invalid):
        return False
    return True


def reason(said: str) -> str:
    """The line in which a program says why it failed, or its last one."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("error: ", "ERROR: "))]
    return (errors or lines or ["it said nothing"])[0 if errors else -1]
