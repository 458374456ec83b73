from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT, params_with
from dropgpt.comparison.experiments import EVALUATE
from dropgpt.params import Params, dotted, load
from dropgpt.unread import USUAL, lines, of_data, of_training, unread
from stages.download_fineweb import download_fineweb


def told_of_data(values: dict[str, Any]) -> list[str]:
    data = params_with(data=values).data
    return lines(of_data(data), data=data)


@pytest.mark.parametrize(
    ("source", "keys"),
    [
        ("wikipedia", ["documents", "text_column", "separator", "deduplicate"]),
        ("fineweb", ["text_column", "separator", "deduplicate"]),
        ("hub", ["separator", "deduplicate"]),
        ("files", ["documents"]),
    ],
)
def test_what_a_source_does_not_read_is_known(source: str, keys: list[str]) -> None:
    usual = {"source": source, "dataset": "me/texts" if source == "hub" else None}
    values = {"documents": 200, "text_column": "a", "separator": "b", "deduplicate": False}
    assert told_of_data(usual) == []
    assert told_of_data(usual | {"documents": None}) == []
    told = told_of_data(usual | values)
    assert [line.split()[0] for line in told] == [f"data.{key}" for key in keys]


ALL = {"embedding": 0.1, "attention": 0.1, "attention_output": 0.1, "mlp": 0.1}


@pytest.mark.parametrize(
    ("sections", "key", "why"),
    [
        ({"model": {"dropout_sites": ALL}}, "model.dropout", "all of model.dropout_sites are set"),
        ({"model": {"dropout_sites": {**ALL, "mlp": None}}}, "model.dropout", None),
        ({"model": {"dropout": 0.0}}, "model.attention_dropout", "the attention weights' rate"),
        ({"model": {"dropout": 0.1}}, "model.attention_dropout", None),
        ({"model": {"dropout": 0.0}}, "train.dropout_schedule", "all rates of dropout are 0"),
        ({"model": {"dropout": 0.0, "block_dropout": 0.1}}, "train.dropout_schedule", None),
        ({}, "train.dropout_switch_step", "train.dropout_schedule is constant"),
        (
            {
                "model": {"dropout": 0.0},
                "train": {"dropout_schedule": "late", "dropout_switch_step": 1},
            },
            "train.dropout_switch_step",
            "all rates of dropout are 0",
        ),
        ({"data": {"separator": "a"}}, "data.separator", "data.source is wikipedia, and only eval"),
        (
            {"train": {"dropout_schedule": "linear_up"}},
            "train.dropout_switch_step",
            "train.dropout_schedule is linear_up",
        ),
        (
            {"train": {"dropout_schedule": "late", "dropout_switch_step": 1}},
            "train.dropout_switch_step",
            None,
        ),
        ({"train": {"lr_schedule": "constant"}}, "train.final_learning_rate", "train.lr_schedule"),
        ({"train": {"lr_schedule": "wsd"}}, "train.final_learning_rate", None),
        (
            {"data": {"source": "hub", "dataset": "me/texts", "held_out_split": "test"}},
            "tokenize.validation_fraction",
            "data.held_out_split says what is held out",
        ),
        ({}, "tokenize.validation_fraction", None),
    ],
)
def test_what_nothing_reads_beside_the_other_values_is_known(
    sections: dict[str, Any], key: str, why: str | None
) -> None:
    found = unread(params_with(**sections)).get(key)
    assert found is None if why is None else found and found.startswith(why)


def test_only_what_was_set_is_told() -> None:
    def told(params: Params) -> list[str]:
        return lines(
            of_training(params.model, params.train), model=params.model, train=params.train
        )

    assert told(params_with(model={"dropout": 0.1, "dropout_sites": ALL})) == []
    (line,) = told(params_with(model={"dropout": 0.5, "dropout_sites": ALL}))
    assert line.startswith("model.dropout is 0.5, without effect on model and held-out loss: all")
    assert told(params_with(train={"dropout_switch_step": 3})) == [
        "train.dropout_switch_step is 3, without effect on model and held-out loss: "
        "train.dropout_schedule is constant"
    ]
    rate = {"lr_schedule": "constant", "final_learning_rate": 1e-4}
    (line,) = told(params_with(train=rate))
    assert line.startswith("train.final_learning_rate is 0.0001, without effect on model")


def test_the_stage_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    Path("corpora").mkdir()
    Path("corpora/a.txt").write_text("one<|endoftext|>two<|endoftext|>three")
    (line,) = download_fineweb(params_with(data={"source": "files", "documents": 2}))
    assert line.startswith("3 documents ")
    warning = (
        "warning: data.documents is 2, without effect on model and held-out loss: data.source is "
        "files"
    )
    assert warning in capsys.readouterr().err.splitlines()


def test_what_is_usual_stands_in_params_yaml() -> None:
    whole = load(ROOT / "params.yaml")
    values = dotted(whole.model_dump())
    assert {key: values[key] for key in USUAL} == USUAL
    assert whole.evaluate == EVALUATE
