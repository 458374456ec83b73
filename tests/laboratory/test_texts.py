"""The setting that all runs depend on."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from conftest import ROOT, message, params_with
from dropgpt.corpus import document
from dropgpt.corpus.document import Document
from dropgpt.errors import UserError
from dropgpt.machine.files import SUMS
from laboratory import run, texts
from laboratory.plan import Size


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda plan: plan["base"]["train"].update(beta1=0.8), "base"),
        (lambda plan: plan.update(documents="0"), "documents"),
        (
            lambda plan: plan["variants"]["p0-short"].update({"train.learning_rate": 1e-3}),
            "variants",
        ),
        (lambda plan: plan["groups"]["map"]["seeds"].append(7), None),
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
        assert json.loads(size.variants.read_text()) == values["variants"]
        return
    with pytest.raises(UserError) as error:
        texts.prepare(size)
    assert message(error).startswith(
        f"laboratory: laboratory/small/plan.yaml: {told} changed while it ran"
    )
    assert not size.setting.exists()


def in_a_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Size:
    """The small one, with 40 documents as corpus, of 20 articles."""
    size = Size("small")
    values = YAML(typ="safe").load(ROOT / size.plan)
    monkeypatch.chdir(folder)
    size.folder.mkdir(parents=True)
    values["base"]["tokenize"]["validation_fraction"] = 0.2
    values["groups"] = {"map": {"seeds": [1, 2], "variants": ["p0-short"]}}
    values["variants"] = {"p0-short": {}}
    YAML().dump(values, size.plan)
    texts.DOCUMENTS.parent.mkdir()
    corpus = [Document(f"text {n} " * 9, f"{n}#opening", f"{n // 2}") for n in range(40)]
    document.write(corpus, texts.DOCUMENTS)
    return size


def test_tokens_that_were_damaged_are_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC does not know of them, and could not bring them back."""
    size = in_a_size(tmp_path, monkeypatch)
    texts.prepare(size)
    whole = {file.name: file.read_bytes() for file in size.tokens.iterdir()}
    for name in ("tokens.npy", SUMS):
        with (size.tokens / name).open("r+b") as file:
            file.seek(-3, os.SEEK_END)
            file.write(b"~")
        texts.texts(size)
        assert {file.name: file.read_bytes() for file in size.tokens.iterdir()} == whole
        (size.tokens / name).unlink()
        texts.texts(size)
        assert {file.name: file.read_bytes() for file in size.tokens.iterdir()} == whole


def test_a_plan_that_takes_no_document_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = in_a_size(tmp_path, monkeypatch)
    plan = size.plan.read_text()
    size.plan.write_text(plan.replace("documents: '#opening$'", "documents: '#lead$'"))
    with pytest.raises(UserError) as error:
        texts.prepare(size)
    assert message(error) == (
        f"{size.plan}: documents: no document of {texts.DOCUMENTS} has an id that matches #lead$; "
        "null takes all"
    )


@pytest.mark.parametrize("content", [None, "", '{"base": {', "{}", "[]", "null"])
def test_a_setting_that_is_torn_or_gone_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    size = in_a_size(tmp_path, monkeypatch)
    if content is not None:
        size.setting.write_text(content)
    with pytest.raises(UserError, match=r"setting\.json is not there or torn: `python -m labor"):
        run.make(params_with(), size, "p0-short", 1, tmp_path / "run.json")
