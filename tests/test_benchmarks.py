"""The benchmarks still run; how fast, no test asks."""

import re

import pytest

from benchmarks import models, work
from benchmarks.__main__ import ROWS
from conftest import params_with

# The last three do what other names do with another stage.
LONG = ("nanogpt", "compiled", "repro", "ten times", "evaluate stage", "start train", "start eval")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "PARAMS", params_with())
    monkeypatch.setattr(models, "N_CTX", 32)
    for name, value in {"BATCH": 2, "STEPS": 1, "MEASURED": 288, "NEW": 3}.items():
        monkeypatch.setattr(models, name, value)


@pytest.mark.parametrize(
    "name", [name for name in work.WORK if not any(part in name for part in LONG)]
)
def test_a_piece_of_work_gives_its_rate(name: str) -> None:
    assert work.WORK[name]() > 0


def test_both_measure_the_same_loss(capsys: pytest.CaptureFixture[str]) -> None:
    for measure in (models.evaluate, models.evaluate_transformers):
        measure()
    ours, theirs = re.findall(r"evaluate: (.*) nats", capsys.readouterr().err)
    assert float(ours) == pytest.approx(float(theirs), abs=1e-5)


def test_every_row_names_work_that_there_is() -> None:
    for row in ROWS:
        assert {row.ours, row.peer or row.ours} <= {*work.WORK}
