"""What else was run, beside the run that differs in having no dropout."""

from typing import Any

import numpy as np
import pytest

from conftest import ROOT
from dropgpt.errors import UserError
from laboratory.explored import LeftOn, explored, left_on
from laboratory.judge import difference
from laboratory.page import settings
from laboratory.plan import Group, Plan, Size
from laboratory.results import Losses, Results, ensemble, of_length
from laboratory.sentences import with_masks
from laboratory.worth import gains
from made_up import results

PS = {"p0": 0.0, "p10": 0.1}


def test_each_setting_stands_beside_its_own_without_dropout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """p 0.1 with windows anywhere beside p 0 with such windows, and keys beside the map's p 0."""
    monkeypatch.chdir(ROOT)
    whole = Size("small").load()
    keys = {"model.dropout": 0.2, "model.attention_dropout": "keys"}
    anywhere, half = {"train.sampling": "random"}, {"train.tokens": 38913, "train.steps": 38}
    variants = {
        "p0-8": {"train.learning_rate": 1e-3},
        "keys-8": keys | {"train.learning_rate": 2e-3},
        "half-p20-8": half | {"model.dropout": 0.2},
        "anywhere-p0-8": anywhere,
        "anywhere-p10-8": anywhere | {"model.dropout": 0.1},
    }
    first, *others = variants
    groups = {
        "map": Group(seeds=[1, 2], variants=[first]),
        "others": Group(seeds=[1, 2], variants=others),
    }
    plan = Plan(documents=None, base=whole.base, variants=variants, groups=groups)
    found, other = results(), results(effect=0)
    made = {
        "p0": {8: found.at("p0", 16)},
        "anywhere-p0": {8: other.at("p0", 16)},
        "anywhere-p10": {8: found.at("p10", 16)},
        "keys": {8: found.at("p30", 16)},
        "half-p20": {8: found.at("p30", 16)},  # whose p 0 has not been run
    }
    told = {one.setting: one for one in explored(Results(made, found.sizes), plan)}
    assert [*told] == ["keys", "half-p20", "anywhere-p0", "anywhere-p10"]
    assert told["keys"].changes == {"model.dropout": 0.2, "model.attention_dropout": "keys"}
    assert told["keys"].effect is not None
    assert told["keys"].effect.mean == pytest.approx(-0.12, abs=0.01)
    assert told["anywhere-p10"].effect is not None
    apart = told["anywhere-p10"].loss - told["anywhere-p0"].loss
    assert told["anywhere-p10"].effect.mean == pytest.approx(apart)
    assert told["anywhere-p0"].effect is None
    assert told["half-p20"].effect is None
    assert (told["keys"].learning_rate, told["keys"].rate_beside) == (2e-3, 1e-3)
    assert (told["half-p20"].learning_rate, told["half-p20"].rate_beside) == (1e-3, None)
    assert [one.beside for one in told.values()] == ["p0", None, None, "anywhere-p0"]


def test_one_site_left_out_stands_beside_all_sites(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    variants: dict[str, dict[str, Any]] = {
        "p0-16": {"model.dropout": 0.0},
        "p20-16": {"model.dropout": 0.2},
        "not-mlp-16": {"model.dropout": 0.2, "model.dropout_sites.mlp": 0.0},
        "only-mlp-16": {"model.dropout": 0.0, "model.dropout_sites.mlp": 0.2},
    }
    without, whole, *others = variants
    groups = {
        "map": Group(seeds=[1, 2], variants=[without, whole]),
        "sites": Group(seeds=[1, 2], variants=others),
    }
    found = results()
    made = {"p0": "p0", "p20": "p30", "not-mlp": "p10", "only-mlp": "p10"}
    settings = {one: found.settings[of] for one, of in made.items()}
    told = explored(Results(settings, found.sizes), plan_of(groups, variants))
    assert [(one.setting, one.beside) for one in told] == [("not-mlp", "p20"), ("only-mlp", "p0")]
    assert told[0].effect is not None
    assert told[0].effect.mean == pytest.approx(found.loss("p10", 16) - found.loss("p30", 16))


def plan_of(groups: dict[str, Group], variants: dict[str, dict[str, Any]]) -> Plan:
    base = Size("small").load().base | {"readings": [16]}
    return Plan(documents=None, base=base, variants=variants, groups=groups)


def test_the_page_needs_a_map_with_each_rate_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    variants = {f"{p}-16": {"model.dropout": of} for p, of in PS.items()}
    other = {"more-p10-16": {"model.dropout": 0.1, "train.weight_decay": 1.0}}
    of_map = Group(seeds=[1, 2], variants=[*variants])
    assert settings(plan_of({"map": of_map}, variants)) == {"p0": "0", "p10": "0.1"}
    twice = Group(seeds=[1, 2], variants=[*variants, *other])
    with pytest.raises(UserError, match=r"group map has the rates 0, 0\.1, 0\.1: it needs p 0"):
        settings(plan_of({"map": twice}, variants | other))
    with pytest.raises(UserError, match="has no group map"):
        settings(plan_of({"mine": of_map}, variants))


def test_of_several_models_that_read_a_text_each_ensemble_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beside as many without dropout."""
    monkeypatch.chdir(ROOT)
    variants = {f"two-{p}-16": {"members": 2, "model.dropout": of} for p, of in PS.items()}
    plan = plan_of({"mine": Group(seeds=[1, 2], variants=[*variants])}, variants)
    found, lower = results(), results(effect=-1)
    made = {f"two-{p}": found.settings[p] for p in PS}
    for number, of in ((1, found), (2, lower)):
        made |= {ensemble(f"two-{p}", number): of.settings[p] for p in PS}
    told = explored(Results(made, found.sizes), plan)
    assert [one.setting for one in told] == [ensemble(f"two-{p}", n) for p in PS for n in (1, 2)]
    assert [one.loss for one in told] == [of.loss(p, 16) for p in PS for of in (found, lower)]
    assert [one.changes for one in told[::2]] == [{"model.dropout": of} for of in PS.values()]
    assert told[3].effect is not None
    assert told[3].effect.mean == pytest.approx(lower.loss("p10", 16) - lower.loss("p0", 16))


def test_ensembles_are_told_until_the_table_of_worth_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has none where a rate is missing."""
    monkeypatch.chdir(ROOT)
    rates = {"p0": 0.0, "p10": 0.1, "p20": 0.2, "p30": 0.3}
    variants = {f"ensembles-{p}-16": {"members": 1, "model.dropout": of} for p, of in rates.items()}
    plan = plan_of({"ensembles": Group(seeds=[1, 2], variants=[*variants])}, variants)
    found = results()
    made = {ensemble(f"ensembles-{p}", 1): found.settings["p0"] for p in rates}
    some = {one: made[one] for one in [*made][:2]}
    assert [one.setting for one in explored(Results(some, found.sizes), plan)] == [*some]
    assert explored(Results(made, found.sizes), plan) == []
    assert gains(Results(made, found.sizes), 16, {})
    variants["ensembles-p0-4"] = {"members": 1, "model.dropout": 0.0, "readings": [4]}
    plan = plan_of({"ensembles": Group(seeds=[1, 2], variants=[*variants])}, variants)
    made[ensemble("ensembles-p30", 1)] = {16: found.at("p0", 16)}
    told = explored(Results(made, found.sizes), plan)
    assert [(one.setting, one.readings) for one in told] == [(ensemble("ensembles-p0", 1), 4)]


def test_settings_of_other_texts_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """One seed in common says nothing of chance, none says nothing at all."""
    monkeypatch.chdir(ROOT)
    variants = {f"{p}-16": {"model.dropout": of} for p, of in PS.items()}
    groups = {
        name: Group(seeds=[1, 2], variants=[one])
        for name, one in zip(("map", "mine"), variants, strict=True)
    }
    found = results()
    theirs, ours = found.settings["p0"], found.at("p10", 16)
    for shared in (2, 1, 0):
        moved = ours.test.set_axis(ours.test.index + len(ours.test) - shared)
        made = {"p0": theirs, "p10": {16: Losses(ours.development, moved)}}
        [told] = explored(Results(made, found.sizes), plan_of(groups, variants))
        assert (told.effect is not None) == (told.rate_beside is not None) == (shared == 2)


def test_what_is_measured_besides_does_not_hide_the_maps_no_dropout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    variants: dict[str, dict[str, Any]] = {
        "p0-16": {"model.dropout": 0.0},
        "on-p0-8": {"model.dropout": 0.0, "readings": [8], "monte_carlo": [4]},
        "keys-16": {"model.dropout": 0.2, "model.attention_dropout": "keys"},
    }
    first, *others = variants
    groups = {
        "map": Group(seeds=[1, 2], variants=[first]),
        "mine": Group(seeds=[1, 2], variants=others),
    }
    found = results()
    made = {"p0": found.settings["p0"], "keys": found.settings["p10"]}
    [told] = explored(Results(made, found.sizes), plan_of(groups, variants))
    assert told.effect is not None


def test_dropout_left_on_stands_beside_dropout_off() -> None:
    """One pass is the mean over the most that were made."""

    def run(loss: float) -> dict[str, Any]:
        def nats(more: float) -> list[float]:
            return [2 * (loss + more), 3 * (loss + more), 5 * (loss + more)]

        passes = {
            "4": {"test": nats(0.2), "on": nats(0.9)},
            "16": {"test": nats(0.1), "on": nats(0.5)},
        }
        return {"development": loss, "test": nats(0), "monte_carlo": passes}

    losses = of_length({1: run(4.0), 2: run(4.1)})
    found = left_on(
        Results({"p20": {8: losses}, "p0": {8: results().at("p0", 4)}}, np.array([2, 3, 5]))
    )
    assert [(one.setting, one.readings, one.passes) for one in found] == [
        ("p20", 8, 1),
        ("p20", 8, 4),
        ("p20", 8, 16),
    ]
    assert [one.development for one in found] == pytest.approx([4.05] * 3)
    assert [one.loss for one in found] == pytest.approx([4.55, 4.25, 4.15])
    assert [one.effect.mean for one in found] == pytest.approx([0.5, 0.2, 0.1])


@pytest.mark.parametrize("apart", [-0.1, 0.1])
def test_the_head_says_where_dropout_left_on_is_better(apart: float) -> None:
    made = results()
    test = made.at("p0", 4).test
    found = difference(0 * test + made.sizes * apart + 0.001 * test, made)
    on = [LeftOn("passes-p20", 64, passes, 4.0, 3.9, found) for passes in (4, 16)]
    said = with_masks(on, {"p20": "0.2"})
    assert bool(said) == (found.high < 0) == (apart < 0)
    if said:
        assert "the mean of 16 passes, p 0.2 with 64 readings has 3.900, " in said
        assert f"{-found.mean:.3f} ({-found.high:.3f} to {-found.low:.3f}) below" in said
    assert with_masks(on[:1], {"p20": "0.2"}) == ""
    better = LeftOn("mine", 16, 16, 3.9, 3.8, found)  # which the map has not
    lucky = LeftOn("lucky", 16, 16, 4.1, 3.7, found)  # on the test documents
    said = with_masks([*on, better, lucky], {"p20": "0.2"})
    assert ("16 passes, mine with 16 readings has 3.800" in said) == (apart < 0)
