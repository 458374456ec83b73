"""Make some runs again and demand the same bytes: `python -m laboratory.first.check`

For a change of the code that should change no number; see `laboratory.again`. `--take-over` has DVC
take all for runs of the code that is there now; RESULTS.md then tells how many were made by earlier
code.
"""

import sys
from functools import partial

from dropgpt.params import Params
from laboratory import again
from laboratory.first import plan
from laboratory.first.plan import FILE, file
from laboratory.first.run import make
from laboratory.pipeline import Pipeline, stage
from stages import run

TAKE_OVER = "--take-over"


def check(params: Params) -> None:
    chosen = plan.load()
    planned = [
        again.Planned(
            stage(chosen.group(variant), variant, seed),
            file(variant, seed),
            chosen.params(variant, seed).model_dump(),
            partial(make, params, variant, seed),
        )
        for variant, seeds in chosen.seeds.items()
        for seed in seeds
    ]
    take_over = TAKE_OVER in sys.argv
    made = again.check(Pipeline(FILE.parent), planned, params, take_over)
    if take_over:
        print(f"check: {made} runs taken over; `make results` goes on from there")


if __name__ == "__main__":
    run(check)
