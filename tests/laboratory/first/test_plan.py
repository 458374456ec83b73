"""A mistake in the plan is told in one line, before any run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from conftest import ROOT, message
from dropgpt.errors import UserError
from laboratory.first import plan

Change = Callable[[Any], Any]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p["variants"]["p10"].update({"model.dropuot": 0.1}), "p10: model.dropuot: the"),
        (lambda p: p["variants"]["p10"].update({"model.dropout": 1.5}), "model.dropout is 1.5: "),
        (lambda p: p["variants"].update({"p15": {}}), "p15 stands in 0 groups, not in one"),
        (lambda p: p["groups"]["map"]["variants"].append("p15"), "p15: no such variant"),
        (lambda p: p["groups"]["sites"]["variants"].append("p0"), "p0 stands in 2 groups"),
        (lambda p: p["base"]["train"].pop("steps"), "train.steps: this key is missing"),
        (lambda p: p["groups"]["map"].update(seeds=[]), "groups.map.seeds"),
    ],
)
def test_a_mistake_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change, said: str
) -> None:
    values = YAML(typ="safe").load(ROOT / plan.FILE)
    change(values)
    (tmp_path / plan.FILE).parent.mkdir(parents=True)
    YAML().dump(values, tmp_path / plan.FILE)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        plan.load()
    assert said in message(error)


def test_a_run_is_the_base_with_its_variants_changes() -> None:
    base, own = (plan.load().params(name, 3) for name in ("p0", "not-mlp"))
    assert own.train.seed == 3
    assert own.model.dropout == 0.2
    assert own.model.dropout_sites.mlp == 0.0
    assert base.model.dropout == 0.0
