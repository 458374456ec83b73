"""Some runs made again, for a change of the code that should change no number.

Of the runs that were made in an environment like this one, the commit says which are made again,
not anyone's taste. Where they come out the same, DVC may take all for runs of the code that is
there now.
"""

import hashlib
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dropgpt.errors import UserError
from dropgpt.machine.hardware import compute_dtype, environment, prepare
from dropgpt.params import Params, Train
from laboratory.mistakes import checked
from laboratory.pipeline import Pipeline, stage
from laboratory.plan import Plan, Size, serves
from laboratory.results import AGAIN, load
from laboratory.run import make


def check(params: Params, size: Size, take_over: bool) -> None:
    """Make some of the runs again; if asked to, have DVC then take all for runs of this code.

    Raises UserError where one differs, where none was made in an environment like this one, and
    before DVC would take an edited one.
    """
    plan, pipeline = checked(size), Pipeline(size.folder)
    with pipeline.kept_lock():
        pipeline.repro("prepare")
        # The others will be made anew, since the plan has changed.
        made = [
            (variant, seed)
            for variant, seeds in plan.seeds.items()
            for seed in seeds
            if (file := size.run(variant, seed)).exists()
            and serves(load(file)["made_by"]["params"], plan.params(variant, seed).model_dump())
        ]
        stages = [stage(plan.group(one), one, seed) for one, seed in made]
        if take_over and (edited := pipeline.edited(stages)):
            raise UserError(
                f"laboratory: {edited[0]} is not as its run wrote it, by {pipeline.lock}"
                f"{f', and {len(edited) - 1} more' if edited[1:] else ''}: bring it back by `git "
                "checkout`, or remove it, and it is made anew"
            )
        _make_some(params, size, plan, made)
        if take_over:
            pipeline.commit(stages)
            print(f"check: {len(made)} runs taken over")


def _make_some(params: Params, size: Size, plan: Plan, made: list[tuple[str, int]]) -> None:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    if not made:
        raise UserError(
            "laboratory: no run was made with the parameters that the plan has now, so there is "
            f"nothing to make again: `{size.command}` makes what is missing"
        )
    here = [one for one in made if of_here(load(size.run(*one))["made_by"], params)]
    if not here:
        raise UserError(
            f"laboratory: of {len(made)} runs none was made on a machine and with packages like "
            "these, so that none would have the same bytes here: check on a machine that made "
            "some, or remove one, and it is made here"
        )
    here.sort(key=lambda one: hashlib.sha256(f"{commit}{size.run(*one).stem}".encode()).digest())
    for variant, seed in here[:AGAIN]:
        file = size.run(variant, seed)
        before = of_lengths(load(file), plan.params(variant, seed).readings)
        with TemporaryDirectory() as folder:
            anew = Path(folder) / "run.json"
            make(params, size, variant, seed, anew)
            after = load(anew)
        differing = [key for key in before if before[key] != after.get(key)]
        if differing:
            raise UserError(f"{file}: made again, it differs in {', '.join(differing)}")
        print(f"check: {file}: the same")


def of_lengths(found: dict[str, Any], readings: list[int]) -> dict[str, Any]:
    """What a run would say, had it these lengths alone."""
    made_by = found["made_by"]
    return found | {
        "made_by": made_by | {"params": made_by["params"] | {"readings": readings}},
        "lengths": {str(n): found["lengths"][str(n)] for n in readings},
    }


def of_here(made_by: dict[str, Any], params: Params) -> bool:
    """Whether a run was made in the environment in which it would be made here."""
    device = prepare(params.runtime.device, 1)
    precision = Train.model_validate(made_by["params"]["train"]).precision
    return bool(made_by["environment"] == environment(device, compute_dtype(precision, device)))
