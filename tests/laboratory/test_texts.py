"""The setting that all runs depend on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from conftest import ROOT, message
from dropgpt.errors import UserError
from laboratory import texts
from laboratory.plan import Size


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda plan: plan["base"]["train"].update(beta1=0.8), "base"),
        (lambda plan: plan.update(documents="0"), "documents"),
        (lambda plan: plan["variants"]["p0-short"].update({"train.learning_rate": 1e-3}), None),
    ],
)
def test_a_setting_is_of_the_plan_that_stands_there_when_it_is_made(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Any], Any],
    told: str | None,
) -> None:
    size = Size("small")
    values = YAML(typ="safe").load(ROOT / size.plan)
    monkeypatch.chdir(tmp_path)
    size.folder.mkdir(parents=True)
    YAML().dump(values, size.plan)

    def edited(*_: object) -> None:
        change(values)
        YAML().dump(values, size.plan)

    monkeypatch.setattr(texts, "_make_tokens", edited)
    monkeypatch.setattr(texts, "setting", lambda size, chosen: {})
    if told is None:
        texts.prepare(size)
        assert size.setting.exists()
        return
    with pytest.raises(UserError) as error:
        texts.prepare(size)
    assert message(error).startswith(
        f"laboratory: laboratory/small/plan.yaml: {told} changed while it ran"
    )
    assert not size.setting.exists()
