"""Some runs made again, for a change of the code that should change no number.

Of the runs that were made in an environment like this one, the commit says which are made again,
not anyone's taste. Where they come out the same, DVC may take all for runs of the code that is
there now.
"""

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dropgpt.errors import UserError
from dropgpt.machine.hardware import compute_dtype, environment, prepare
from dropgpt.params import Params, Train

AGAIN = 3  # runs


def check(files: list[Path], make: Callable[[Path, Path], None], params: Params) -> None:
    """Have `make` make some of the `files` again, into another one.

    Raises UserError where one differs in anything but what says by which code it was made, and
    where none was made in an environment like this one.
    """
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    here = [file for file in files if of_here(values(file), params)]
    if not here:
        raise UserError(
            f"laboratory: of {len(files)} runs none was made on a machine and with packages like "
            "these, so that none would have the same bytes here: check on a machine that made "
            "some, or remove one, and it is made here"
        )
    here.sort(key=lambda file: hashlib.sha256(f"{commit}{file.stem}".encode()).digest())
    for file in here[:AGAIN]:
        before = values(file)
        with TemporaryDirectory() as folder:
            anew = Path(folder) / "run.json"
            make(file, anew)
            after = values(anew)
        differing = [key for key in before if before[key] != after.get(key)]
        if differing:
            raise UserError(f"{file}: made again, it differs in {', '.join(differing)}")
        print(f"check: {file}: the same")


def of_here(found: dict[str, Any], params: Params) -> bool:
    """Whether a run was made in the environment in which it would be made here."""
    device = prepare(params.runtime.device, 1)
    precision = Train.model_validate(found["params"]["train"]).precision
    return bool(found["environment"] == environment(device, compute_dtype(precision, device)))


def values(file: Path) -> dict[str, Any]:
    """All that a run says but which code made it."""
    found = json.loads(file.read_text(encoding="utf-8"))
    made_by = found.pop("made_by")
    return {"params": made_by["params"], "environment": made_by["environment"]} | found
