"""Make some runs again and demand the same bytes: `python -m laboratory.first.check`

For a change of the code that should change no number; see `laboratory.again`. `--take-over` has DVC
take all for runs of the code that is there now; RESULTS.md then tells how many were made by earlier
code.
"""

import sys
from pathlib import Path

from dropgpt.params import Params
from laboratory import again
from laboratory.first import plan
from laboratory.first.pipeline import PIPELINE, stage
from laboratory.first.plan import file
from laboratory.first.run import make
from stages import run

TAKE_OVER = "--take-over"


def check(params: Params) -> None:
    chosen = plan.load()
    with PIPELINE.kept_lock():
        PIPELINE.repro("prepare")
        made = {
            path: (variant, seed)
            for variant, seeds in chosen.seeds.items()
            for seed in seeds
            if (path := file(variant, seed)).exists()
            # Else the plan has changed, and it will be made anew.
            and again.values(path)["params"] == chosen.params(variant, seed).model_dump()
        }

        def anew(old: Path, output: Path) -> None:
            make(params, *made[old], output)

        again.check(list(made), anew, params)
        if TAKE_OVER in sys.argv:
            PIPELINE.commit([stage(chosen, *key) for key in made.values()])
            print(f"check: {len(made)} runs taken over; `make results` goes on from there")


if __name__ == "__main__":
    run(check)
