"""What a result is the result of. It travels with the result, in a file beside it.

A chain holds a record for each stage that had a part in it: the parameters that the stage read,
checksums of its inputs and of its code, and what else may change the last bits. So nothing that
reads a result asks another file what made it. What was measured and what a model was made with
are two things: nothing of a model's past stands for the texts, tokens or settings of a measurement.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from dropgpt.machine.files import SUMS, sha256, write_json
from dropgpt.params import Section

FILE = "provenance.json"
MODEL = "model"  # under this name the chain of a model from elsewhere: what it was made with, there

Chain = dict[str, dict[str, Any]]  # a record by stage


def record(
    stage: str,
    params: Mapping[str, Section],
    inputs: Mapping[str, list[Path]],
    environment: dict[str, Any],
) -> Chain:
    """The record of `stage`, under its name.

    `params` are the sections that may change its result, `inputs` the files it
    read. `environment` is what `hardware.environment` tells.
    """
    return {
        stage: {
            "params": {name: section.model_dump() for name, section in params.items()},
            "inputs": {name: checksum(paths) for name, paths in inputs.items()},
            "code": code(stage),
            "environment": environment,
        }
    }


def write(chain: Chain, folder: Path) -> None:
    """Put `chain` beside the results in `folder`."""
    write_json(folder / FILE, chain)


def read(folder: Path) -> Chain:
    """The chain in the sealed `folder`; empty where it is not sealed, as what others made."""
    sealed = (folder / SUMS).exists() and (folder / FILE).exists()
    return json.loads((folder / FILE).read_text(encoding="utf-8")) if sealed else {}


def checksum(paths: list[Path]) -> str:
    """sha256 of a file, or of the names and sha256 of several."""
    sums = {path.name: sha256(path) for path in sorted(paths)}
    if len(sums) == 1:
        return next(iter(sums.values()))
    return hashlib.sha256(json.dumps(sums).encode()).hexdigest()


def code(stage: str) -> str:
    """sha256 of the names and contents of the code that dvc.yaml says `stage` depends on."""
    deps = map(Path, YAML(typ="safe").load(Path("dvc.yaml"))["stages"][stage]["deps"])
    rooms = [dep for dep in deps if dep.parts[0] in ("src", "stages")]
    files = sorted(file for room in rooms for file in [room, *room.rglob("*")])
    # What is hidden is an editor's: .#gpt.py of Emacs, a folder .ipynb_checkpoints of Jupyter.
    seen = [file for file in files if not any(part.startswith(".") for part in file.parts)]
    sums = {file.as_posix(): sha256(file) for file in seen if file.suffix == ".py"}
    return hashlib.sha256(json.dumps(sums).encode()).hexdigest()
