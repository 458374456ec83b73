"""Make some runs again and demand the same bytes: `python -m laboratory.first.check`

For a change of the code that should change no number. Of the runs that were made in an environment
like this one, the commit says which are made again, not anyone's taste. Where they come out the
same, `--take-over` has DVC take all for runs of the code that is there now; RESULTS.md then tells
how many were made by earlier code.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dropgpt.errors import UserError
from dropgpt.machine.hardware import compute_dtype, environment, prepare
from dropgpt.params import Params
from laboratory.first import plan
from laboratory.first.pipeline import PIPELINE, dvc, kept_lock, repro, stage
from laboratory.first.plan import RUNS, Plan, file
from laboratory.first.run import make
from stages import run

AGAIN = 3  # runs
TAKE_OVER = "--take-over"


def check(params: Params) -> None:
    with kept_lock():
        make_again(params)


def make_again(params: Params) -> None:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    chosen = plan.load()
    repro("prepare")
    made = [
        (variant, seed)
        for variant, seeds in chosen.seeds.items()
        for seed in seeds
        if (path := file(variant, seed)).exists()
        # Else the plan has changed, and it will be made anew.
        and values(path)["params"] == chosen.params(variant, seed).model_dump()
    ]
    here = [key for key in made if values(file(*key))["environment"] == now(params, chosen, *key)]
    if not here:
        raise UserError(
            f"laboratory: of {len(made)} runs none was made on a machine and with packages like "
            "these, so that none would have the same bytes here: check on a machine that "
            f"RESULTS.md lists, or remove a run from {RUNS}, and `make results` makes it"
        )
    here.sort(key=lambda key: hashlib.sha256(f"{commit}{key}".encode()).digest())
    for variant, seed in here[:AGAIN]:
        before = values(file(variant, seed))
        with TemporaryDirectory() as folder:
            again = Path(folder) / "run.json"
            make(params, variant, seed, again)
            after = values(again)
        differing = [key for key in before if before[key] != after.get(key)]
        if differing:
            raise UserError(
                f"{file(variant, seed)}: made again, it differs in {', '.join(differing)}"
            )
        print(f"check: {file(variant, seed)}: the same")
    if TAKE_OVER in sys.argv:
        stages = [f"{PIPELINE}:{stage(chosen, *key)}" for key in made]
        dvc("commit", "--force", *stages)
        print(f"check: {len(made)} runs taken over; `make results` goes on from there")


def now(params: Params, chosen: Plan, variant: str, seed: int) -> dict[str, Any]:
    """The environment in which `make` would make the run here."""
    device = prepare(params.runtime.device, 1)
    precision = chosen.params(variant, seed).train.precision
    return environment(device, compute_dtype(precision, device))


def values(path: Path) -> dict[str, Any]:
    """All that a run says but which code made it."""
    found = json.loads(path.read_text(encoding="utf-8"))
    made_by = found.pop("made_by")
    return {"params": made_by["params"], "environment": made_by["environment"]} | found


if __name__ == "__main__":
    run(check)
