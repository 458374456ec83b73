"""Make what is missing of a size, with a worker for each core: `python -m laboratory SIZE`

`--check` makes some of its runs again and demands the same bytes; `--take-over` then has DVC take
all for runs of the code that is there now.
"""

import argparse
from pathlib import Path

from dropgpt.params import Params
from laboratory import again, workers
from laboratory.pipeline import Pipeline
from laboratory.plan import Plan, Size
from laboratory.run import make
from stages import run


def missing(pipeline: Pipeline, chosen: Plan) -> list[str]:
    """The names of the runs that DVC would make, in the order of the plan."""
    changed = pipeline.changed()
    return [
        name
        for group in chosen.groups.values()
        for seed in group.seeds
        for variant in group.variants
        if (name := f"{chosen.group(variant)}@{variant}-{seed}") in changed
    ]


def make_missing(params: Params, size: Size) -> None:
    chosen = size.load()  # a mistake in it is told here, and not by each run
    pipeline = Pipeline(size.folder)
    with pipeline.kept_lock() as keep:
        pipeline.repro("prepare")
        workers.make(pipeline, missing(pipeline, chosen), params, keep)


def check(params: Params, size: Size, take_over: bool) -> None:
    chosen = size.load()
    pipeline = Pipeline(size.folder)
    with pipeline.kept_lock():
        pipeline.repro("prepare")
        made = {
            path: (variant, seed)
            for variant, seeds in chosen.seeds.items()
            for seed in seeds
            if (path := size.run(variant, seed)).exists()
            # Else the plan has changed, and it will be made anew.
            and again.values(path)["params"] == chosen.params(variant, seed).model_dump()
        }

        def anew(file: Path, output: Path) -> None:
            make(params, size, *made[file], output)

        again.check(list(made), anew, params)
        if take_over:
            names = [f"{chosen.group(name)}@{name}-{seed}" for name, seed in made.values()]
            pipeline.commit(names)
            print(f"check: {len(names)} runs taken over")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m laboratory", description=__doc__)
    parser.add_argument("size", help="a folder of laboratory/ with a plan: small")
    parser.add_argument("--check", action="store_true", help="make some runs again")
    parser.add_argument("--take-over", action="store_true", help="and take all for runs of now")
    arguments = parser.parse_args()
    size = Size(arguments.size)

    def laboratory(params: Params) -> None:
        if arguments.check or arguments.take_over:
            check(params, size, arguments.take_over)
        else:
            make_missing(params, size)

    run(laboratory)


if __name__ == "__main__":
    main()
