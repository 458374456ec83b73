"""Make what is missing of a size, with a worker for each core, and then the page:
`python -m laboratory SIZE`

`--check` makes some of its runs again and demands the same bytes; `--take-over` then has DVC take
all for runs of the code that is there now.
"""

import argparse

from dropgpt.params import Params
from laboratory import again, workers
from laboratory.mistakes import checked
from laboratory.page import settings
from laboratory.pipeline import Pipeline
from laboratory.plan import Size
from stages import run


def make_missing(params: Params, size: Size) -> None:
    plan = checked(size)  # a mistake in it is told here, and not by each run
    settings(plan)  # nor by the page, when all have been made
    pipeline = Pipeline(size.folder)
    with pipeline.kept_lock() as keep:
        pipeline.repro("prepare")
        workers.make(pipeline, pipeline.missing(plan.groups), params, keep)
        # All runs have been looked at, so that DVC need not look at each once more, for minutes.
        pipeline.repro("page", "--single-item")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m laboratory", description=__doc__)
    parser.add_argument("size", help="a folder of laboratory/ with a plan: small")
    parser.add_argument("--check", action="store_true", help="make some runs again")
    parser.add_argument("--take-over", action="store_true", help="and take all for runs of now")
    arguments = parser.parse_args()
    size = Size(arguments.size)

    def laboratory(params: Params) -> None:
        if arguments.check or arguments.take_over:
            again.check(params, size, arguments.take_over)
        else:
            make_missing(params, size)

    run(laboratory)


if __name__ == "__main__":
    main()
