"""The curves in a tracker, and that it changes nothing."""

import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from clone import Clone, stages_run
from conftest import TINY
from dropgpt.errors import UserError
from dropgpt.machine.interruption import Interrupted
from dropgpt.training import tracker

STEPS = [(0, 3.0, 0.1, 1.0), (1, 2.5, 0.2, 1.1), (2, 2.0, 0.3, 1.2)]


def test_tensorboard_has_the_curves_and_the_results_are_the_same_bytes(
    reproduced: Clone, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    clone = reproduced.copy(tmp_path / "clone")
    before = clone.bytes()
    clone.set(runtime={"tracker": "tensorboard"})
    assert stages_run(clone.dvc("repro")) == []
    clone.run(sys.executable, "-m", "stages.train")
    assert clone.bytes() == before
    (folder,) = (clone.folder / "runs").iterdir()
    events = EventAccumulator(str(folder)).Reload()

    def told(name: str) -> dict[int, Any]:
        return {event.step: pytest.approx(event.value) for event in events.Scalars(name)}

    steps = pd.read_csv(clone.folder / "metrics/training.csv", index_col="step")
    validations = pd.read_csv(clone.folder / "metrics/validation.csv", index_col="step")
    for name, curve in [*steps.items(), *validations.items()]:
        assert told(str(name)) == curve.to_dict()
    assert len(steps) == TINY["train"]["steps"] == max(validations.index)


def test_each_step_is_told_once_in_order_with_its_validation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[tuple[int, dict[str, float]]] = []

    def client(run: str) -> Any:
        return (lambda step, values: told.append((step, values))), (
            lambda whole: told.append((-1, {}))
        )

    monkeypatch.setitem(tracker.CLIENTS, "mlflow", client)
    with tracker.of_training("mlflow", "0" * 16) as tell:
        tell(STEPS[:2], [(0, 3.5)])
        tell(STEPS, [(0, 3.5), (2, 2.5)])
        tell(STEPS, [(0, 3.5), (2, 2.5), (3, 1.5)])
    assert [step for step, _ in told] == [0, 1, 2, 3, -1]
    held_out = {step: v["validation_loss"] for step, v in told if "validation_loss" in v}
    assert held_out == {0: 3.5, 2: 2.5, 3: 1.5}
    assert told[1][1] == {"loss": 2.5, "learning_rate": 0.2, "gradient_norm": 1.1}


def test_a_tracker_that_fails_costs_no_training_and_tells_no_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise ConnectionError("no answer from https://me:secret@nowhere.invalid/api")

    monkeypatch.setitem(tracker.CLIENTS, "mlflow", lambda run: (fail, fail))
    with tracker.of_training("mlflow", "0" * 16) as tell:
        tell(STEPS, [])
    said = capsys.readouterr().err
    assert said == (
        "train: mlflow has failed, going on without: no answer from https://nowhere.invalid/api\n"
    )
    monkeypatch.setitem(tracker.CLIENTS, "mlflow", fail)
    with (
        pytest.raises(UserError, match=r"does not start: no answer from https://nowhere\.invalid"),
        tracker.of_training("mlflow", "0" * 16),
    ):
        pass


@pytest.mark.parametrize("error", [None, RuntimeError, Interrupted])
def test_a_training_that_did_not_end_is_not_told_as_finished(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: type[BaseException] | None
) -> None:
    ends: list[Any] = []
    mlflow = SimpleNamespace(
        is_tracking_uri_set=lambda: True,
        set_experiment=lambda name: None,
        start_run=lambda run_name: None,
        end_run=ends.append,
    )
    wandb = SimpleNamespace(
        Settings=lambda **settings: None,
        init=lambda **settings: SimpleNamespace(finish=lambda exit_code: ends.append(exit_code)),
    )
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr(tracker, "FOLDER", tmp_path)
    for name in ("mlflow", "wandb"):
        with (
            pytest.raises(error) if error else nullcontext(),
            tracker.of_training(name, "0" * 16),
        ):
            if error:
                raise error
    assert ends == (["FAILED", 1] if error else ["FINISHED", 0])


def test_a_tracker_that_is_missing_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr(tracker, "FOLDER", tmp_path)
    with (
        pytest.raises(UserError, match=r"is 'wandb', which is not installed: .*\[wandb\]"),
        tracker.of_training("wandb", "0" * 16),
    ):
        pass
