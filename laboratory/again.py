"""Some runs made again, for a change of the code that should change no number.

Of the runs that were made in an environment like this one, the commit says which are made again,
not anyone's taste. Where they come out the same, DVC may take all for runs of the code that is
there now.
"""

import hashlib
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dropgpt.errors import UserError
from dropgpt.machine.hardware import compute_dtype, environment, prepare
from dropgpt.params import Params, Train
from laboratory.pipeline import Pipeline
from laboratory.plan import serves

AGAIN = 3  # runs


@dataclass(frozen=True)
class Planned:
    """A run of a plan.

    stage   its name in the pipeline
    file    what it has found, if it has been made
    params  with which it would be made now
    make    makes it, into another file
    """

    stage: str
    file: Path
    params: dict[str, Any]
    make: Callable[[Path], None]


def check(pipeline: Pipeline, planned: list[Planned], params: Params, take_over: bool) -> int:
    """Make some of the runs again; how many DVC has then taken over, if it was asked to.

    Raises UserError where one differs in anything but what says by which code it was made, and
    where none was made in an environment like this one.
    """
    with pipeline.kept_lock():
        pipeline.repro("prepare")
        # The others will be made anew, since the plan has changed.
        made = [
            one
            for one in planned
            if one.file.exists() and serves(values(one.file)["params"], one.params)
        ]
        _make_some(made, params)
        if take_over:
            pipeline.commit([one.stage for one in made])
    return len(made)


def _make_some(made: list[Planned], params: Params) -> None:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    if not made:
        raise UserError(
            "laboratory: no run was made with the parameters that the plan has now, so there is "
            "nothing to make again: `python -m laboratory` makes what is missing"
        )
    here = [one for one in made if of_here(values(one.file), params)]
    if not here:
        raise UserError(
            f"laboratory: of {len(made)} runs none was made on a machine and with packages like "
            "these, so that none would have the same bytes here: check on a machine that made "
            "some, or remove one, and it is made here"
        )
    here.sort(key=lambda one: hashlib.sha256(f"{commit}{one.file.stem}".encode()).digest())
    for one in here[:AGAIN]:
        before = of_lengths(values(one.file), one.params["readings"])
        with TemporaryDirectory() as folder:
            anew = Path(folder) / "run.json"
            one.make(anew)
            after = values(anew)
        differing = [key for key in before if before[key] != after.get(key)]
        if differing:
            raise UserError(f"{one.file}: made again, it differs in {', '.join(differing)}")
        print(f"check: {one.file}: the same")


def of_lengths(found: dict[str, Any], readings: list[int]) -> dict[str, Any]:
    """What a run would say, had it these lengths alone."""
    return found | {
        "params": found["params"] | {"readings": readings},
        "lengths": {str(n): found["lengths"][str(n)] for n in readings},
    }


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
