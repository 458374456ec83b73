"""Make what is missing, with a worker for each core, and judge: `python -m laboratory.first`"""

from dropgpt.params import Params
from laboratory import workers
from laboratory.first import plan
from laboratory.first.plan import FILE
from laboratory.pipeline import Pipeline
from stages import run


def laboratory(params: Params) -> None:
    chosen = plan.load()  # a mistake in it is told here, and not by each run
    pipeline = Pipeline(FILE.parent)
    with pipeline.kept_lock() as keep:
        pipeline.repro("prepare")
        workers.make(pipeline, pipeline.missing(chosen.groups), params, keep)
        pipeline.repro()


if __name__ == "__main__":
    run(laboratory)
