"""The benchmarks still run; how fast, no test asks."""

import re
import sys
from functools import partial
from importlib import import_module, reload

import pandas as pd
import pytest

import cuda
from benchmarks import models, setting, whole_stages, work
from benchmarks.training import Training
from conftest import params_with

# Others do what these names do with another training or stage.
LONG = ("nanogpt", "nanoGPT", "compiled", "repro", "ten times", "evaluate stage", "start train")
LONG += ("start eval", "GPT-2", "large", "small", "beside two", "matrix")
SLOW = ("start", "tokenize stage", "train stage")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setting, "PARAMS", params_with())
    for name, value in {"MEASURED": 288, "NEW": 3}.items():
        monkeypatch.setattr(models, name, value)
    tiny = Training(batch_size=2, n_ctx=32, size=(1, 1, 16), steps=1)
    for name, found in work.WORK.items():
        if isinstance(found, partial) and isinstance(found.args[0], Training):
            small = partial(found.func, tiny, *found.args[1:])
            monkeypatch.setitem(work.WORK, name, small)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * name.startswith(SLOW))
        for name in work.WORK
        if not any(part in name for part in LONG)
    ],
)
def test_a_piece_of_work_gives_its_rate(name: str) -> None:
    assert work.WORK[name]() > 0


def test_a_text_ten_times_is_ten_times_a_text() -> None:
    """And no copy of it is left out."""
    with whole_stages.workspace("tokenize", 2) as size:
        read = pd.read_parquet("data/documents.parquet", columns=["text"]).text
        assert sum(len(text.encode()) for text in read) == pytest.approx(size * 1e6, rel=0.01)


def test_both_measure_the_same_loss(capsys: pytest.CaptureFixture[str]) -> None:
    for measure in (models.evaluate, models.evaluate_transformers):
        measure()
    ours, theirs = re.findall(r"evaluate: (.*) nats", capsys.readouterr().err)
    assert float(ours) == pytest.approx(float(theirs), abs=1e-5)


@pytest.mark.parametrize("gpus", [0, 1])
def test_every_row_names_work_that_there_is(monkeypatch: pytest.MonkeyPatch, gpus: int) -> None:
    cuda.stand_in(monkeypatch, gpus)
    monkeypatch.setenv("NANOGPT", "a checkout")
    rows = reload(import_module("benchmarks.__main__")).ROWS
    for row in rows:
        assert {row.ours, row.peer or row.ours} <= {*work.WORK}
    assert any("GPT-2 small at 1,024, nanoGPT" in row.title for row in rows) == (gpus > 0)


def test_a_word_in_no_title_is_told_with_the_titles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "no such row"])
    with pytest.raises(SystemExit, match=r"no row has no such row in its title; there are:\n  t"):
        import_module("benchmarks.__main__").main()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_peer_works_where_ours_does(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    cuda.stand_in(monkeypatch)
    monkeypatch.setattr(setting, "PARAMS", params_with(runtime={"device": device}))
    places = setting.device_and_dtype(), setting.peers_device_and_dtype()
    assert [(place.type, dtype) for place, dtype in places] == [(device, places[0][1])] * 2
