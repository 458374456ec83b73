"""Make what is missing, with a worker for each core, and judge: `python -m laboratory.first`"""

from dropgpt.params import Params
from laboratory import workers
from laboratory.first import plan
from laboratory.first.pipeline import PIPELINE, stage
from stages import run


def laboratory(params: Params) -> None:
    plan.load()  # a mistake in it is told here, and not by each run
    with PIPELINE.kept_lock() as keep:
        PIPELINE.repro("prepare")
        workers.make(PIPELINE, missing(), params, keep)
        PIPELINE.repro()


def missing() -> list[str]:
    """The names of the runs that DVC would make, in the order of the plan."""
    changed = PIPELINE.changed()
    chosen = plan.load()
    return [
        name
        for group in chosen.groups.values()
        for seed in group.seeds
        for variant in group.variants
        if (name := stage(chosen, variant, seed)) in changed
    ]


if __name__ == "__main__":
    run(laboratory)
