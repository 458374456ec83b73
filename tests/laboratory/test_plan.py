"""A mistake in the plan is told in one line, before any run."""

import sys
from collections.abc import Callable
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
from ruamel.yaml import YAML

from conftest import ROOT, message
from dropgpt.errors import UserError
from laboratory import run
from laboratory.mistakes import checked
from laboratory.plan import Size, serves

Change = Callable[[Any], Any]


def renamed(values: Any, name: str, other: str) -> None:
    """A variant under another name."""
    values["variants"][other] = values["variants"].pop(name)
    for group in values["groups"].values():
        group["variants"] = [other if one == name else one for one in group["variants"]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p["variants"]["p10-short"].update({"model.dropuot": 0.1}), "model.dropuot: the"),
        (lambda p: p["variants"]["p10-short"].update({"model.dropout": 1.5}), "model.dropout is"),
        (lambda p: p["variants"].update({"p15": {}}), "p15 stands in 0 groups, not in one"),
        (lambda p: p["groups"]["map"]["variants"].append("p15"), "p15: no such variant"),
        (lambda p: p["groups"]["rates"]["variants"].append("p0-short"), "stands in 2 groups"),
        (lambda p: p["base"]["train"].pop("steps"), "train.steps: this key is missing"),
        (
            lambda p: p.update(documents="["),
            "documents is '[': input should be a valid regular expression",
        ),
        (lambda p: p["groups"]["map"].update(seeds=[]), "groups.map.seeds"),
        (lambda p: p["groups"]["map"].update(seeds=[1]), "one seed says nothing of chance"),
        (lambda p: p["variants"]["p10-short"].update(readings=[]), "readings"),
        (
            lambda p: renamed(p, "ensembles-p20-12", "p20-together"),
            "p20-together and p20-short are of one setting, p20, by what stands before their last",
        ),
        (
            lambda p: p["variants"]["ensembles-p0-32"].update(readings=[12, 16]),
            "ensembles-p0-32 and ensembles-p0-12 are of one setting, ensembles-p0, by what stands "
            'before their last "-", and both have 12 readings',
        ),
        (
            lambda p: renamed(p, "late-16", "keys-more"),
            "and differ in model.attention_dropout, train.dropout_schedule: name one",
        ),
        (lambda p: renamed(p, "p50-long", "p50"), "p50: a name ends in"),
        (
            lambda p: p["variants"]["wd1-p20-middle"].update({"model.dropout": 0.25}),
            "variants.wd1-p20-middle: the page takes p20 for a rate of 0.2, and its model.dropout "
            "is 0.25: name it otherwise",
        ),
        (
            lambda p: p["variants"]["ensembles-p0-32"].update(monte_carlo=[4]),
            "members are measured together, monte_carlo one model",
        ),
        (
            lambda p: p["variants"]["p10-short"].update({"train.tokens": 38913}),
            "train.steps are those of one reading: 75 of 8 windows are not the 304 of 38913 tokens",
        ),
        (lambda p: p["base"]["train"].update(tokens=None), "train.tokens is null: give"),
        (lambda p: p["base"]["evaluate"].update(stride=129), "evaluate.stride 129 is above model"),
        (lambda p: p["groups"]["map"].update(seeds=[1, -2]), "train.seed is -2"),
        (lambda p: renamed(p, "p50-long", "p50/a-long"), "variants.p50/a-long: a file is called"),
        (lambda p: renamed(p, "p50-long", "p50 -long"), "variants.p50 -long: a file is called"),
        (
            lambda p: p["groups"]["ensembles"].update(seeds=[1, 2001]),
            "members of one text have seeds 1000 apart, so 2001 would be that of a model of two",
        ),
        (
            lambda p: p["variants"]["p10-short"].update({"tokenize.vocabulary_size": 2000}),
            "variants.p10-short: all runs of small read the same tokens",
        ),
        (
            lambda p: p["variants"]["p10-short"].update({"evaluate.dropout_passes": 8}),
            "variants.p10-short: evaluate.dropout_passes is read by no run: set it to 1",
        ),
        (
            lambda p: p["base"]["evaluate"].update(across_documents=True),
            "evaluate.across_documents is read by no run: set it to false",
        ),
    ],
)
def test_a_mistake_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change, said: str
) -> None:
    size = Size("small")
    values = YAML(typ="safe").load(ROOT / size.plan)
    change(values)
    (tmp_path / size.folder).mkdir(parents=True)
    YAML().dump(values, tmp_path / size.plan)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        checked(size)
    assert said in message(error)


def test_a_run_is_the_base_with_its_variants_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    own = Size("small").load().params("p20-middle", 3)
    assert own.train.seed == 3
    assert (own.model.dropout, own.train.learning_rate, own.readings) == (0.2, 2e-3, [8, 12])
    assert own.training(8).steps == 8 * own.train.steps


def test_a_run_serves_where_it_has_lengths_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    one = Size("small").load().params("p20-middle", 3).model_dump()
    assert serves(one, one)
    assert serves(one, one | {"readings": [12]})
    assert not serves(one, one | {"readings": [8, 16]})
    assert not serves(one, one | {"readings": [8], "monte_carlo": [4]})


@pytest.mark.parametrize(
    ("module", "takes"),
    [
        ("rates", "SIZE"),
        ("simulate", "SIZE"),
        ("texts", "SIZE"),
        ("run", "SIZE VARIANT SEED"),
    ],
)
def test_a_module_says_what_it_takes(
    monkeypatch: pytest.MonkeyPatch, module: str, takes: str
) -> None:
    for given in ([], ["small"] * 4):
        monkeypatch.setattr(sys, "argv", [f"laboratory/{module}.py", *given])
        with pytest.raises(
            SystemExit, match=f"^error: python -m laboratory.{module} takes {takes}$"
        ):
            run_path(str(ROOT / f"laboratory/{module}.py"), run_name="__main__")


@pytest.mark.usefixtures("handlers_put_back")
def test_a_seed_is_a_whole_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit, match="'one' is no seed, which is a whole number"):
        run.main("small", "p0-short", "one")
