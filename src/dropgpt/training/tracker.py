"""The curves of a training in TensorBoard, MLflow or Weights & Biases, for who works with those.

A tracker alters no byte of a result, and one that fails on the way ends no training.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dropgpt.errors import UserError
from dropgpt.machine import processes
from dropgpt.machine.repository import original
from dropgpt.training.state import Row

# A folder of the project also where DVC runs an experiment in a copy that it removes.
FOLDER = original().absolute() / "runs"
PROJECT = "dropgpt"
Log = Callable[[int, dict[str, float]], Any]  # the step, and values by their names
End = Callable[[bool], Any]  # whether the training has come to its end
Tell = Callable[[list[Row], list[Row]], None]


@contextmanager
def of_training(tracker: str | None, fingerprint: str) -> Iterator[Tell]:
    """A function that takes a training's curves so far, whole, and hands on what is new in them.

    `tracker` is a name in CLIENTS, or None for nobody to tell. Raises UserError where it is not
    installed or does not start; if it fails later, a line says so and the training goes on. Of
    several processes only the first one tells it.
    """
    if tracker is None or processes.rank():
        yield lambda steps, validations: None
        return
    experiment = os.environ.get("DVC_EXP_NAME")  # where DVC runs one
    try:
        log, end = CLIENTS[tracker](f"{experiment or 'run'}-{fingerprint[:8]}")
    except ImportError:
        raise UserError(
            f"params.yaml: runtime.tracker is {tracker!r}, which is not installed: "
            f"`pip install --constraint constraints.txt --editable '.[{tracker}]'`"
        ) from None
    except Exception as error:
        raise UserError(
            f"params.yaml: runtime.tracker is {tracker!r}, which does not start: {_safe(error)}"
        ) from None
    told = 0
    works = True

    def attempt(action: Callable[..., Any], *arguments: Any) -> None:
        nonlocal works
        try:
            if works:
                action(*arguments)
        except Exception as error:
            works = False
            print(f"train: {tracker} has failed, going on without: {_safe(error)}", file=sys.stderr)

    def tell(steps: list[Row], validations: list[Row]) -> None:
        nonlocal told
        held_out = {step: {"validation_loss": loss} for step, loss in validations}
        for step, loss, rate, norm in steps[told:]:
            values = {"loss": loss, "learning_rate": rate, "gradient_norm": norm}
            attempt(log, step, values | held_out.get(step, {}))
        told = len(steps)
        if told in held_out:  # the last, after all steps
            attempt(log, told, held_out[told])

    try:
        yield tell
    except BaseException:
        attempt(end, False)
        raise
    attempt(end, True)


def _tensorboard(run: str) -> tuple[Log, End]:
    from torch.utils.tensorboard import SummaryWriter

    # purge_step: a training that goes on tells its first steps anew.
    writer = SummaryWriter(str(FOLDER / run), purge_step=0)

    def log(step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    return log, lambda whole: writer.close()


def _mlflow(run: str) -> tuple[Log, End]:
    import mlflow

    if not mlflow.is_tracking_uri_set():
        FOLDER.mkdir(exist_ok=True)
        mlflow.set_tracking_uri(f"sqlite:///{FOLDER}/mlflow.db")
    mlflow.set_experiment(PROJECT)
    mlflow.start_run(run_name=run)

    def end(whole: bool) -> None:
        mlflow.end_run("FINISHED" if whole else "FAILED")

    return lambda step, values: mlflow.log_metrics(values, step), end


def _wandb(run: str) -> tuple[Log, End]:
    import wandb

    FOLDER.mkdir(exist_ok=True)
    # The curves only: not what the terminal shows, nor what the machine does.
    settings = wandb.Settings(console="off", disable_git=True, x_disable_stats=True)
    started = wandb.init(project=PROJECT, name=run, dir=FOLDER, settings=settings)

    def end(whole: bool) -> None:
        started.finish(exit_code=0 if whole else 1)

    return lambda step, values: started.log(values, step), end


CLIENTS = {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}


def _safe(error: Exception) -> str:
    """What `error` says, in one line, without the name and password that an address may hold."""
    return re.sub(r"//[^/@\s]*@", "//", " ".join(str(error).split()))[:300]
