"""What else was run, beside the run that differs in having no dropout."""

from typing import Any

import numpy as np
import pytest

from conftest import ROOT
from laboratory.explored import LeftOn, explored, left_on
from laboratory.judge import difference
from laboratory.plan import Group, Plan, Size
from laboratory.results import Results, of_length
from laboratory.sentences import with_masks
from made_up import results


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
    settings = {
        "p0": {8: found.at("p0", 16)},
        "anywhere-p0": {8: other.at("p0", 16)},
        "anywhere-p10": {8: found.at("p10", 16)},
        "keys": {8: found.at("p30", 16)},
        "half-p20": {8: found.at("p30", 16)},  # whose p 0 has not been run
    }
    told = {one.setting: one for one in explored(Results(settings, found.sizes), plan)}
    assert [*told] == ["keys", "half-p20", "anywhere-p0", "anywhere-p10"]
    assert told["keys"].changes == {"model.dropout": 0.2, "model.attention_dropout": "keys"}
    assert told["keys"].effect is not None
    assert told["keys"].effect.mean == pytest.approx(-0.12, abs=0.01)
    assert told["anywhere-p10"].effect is not None
    apart = told["anywhere-p10"].loss - told["anywhere-p0"].loss
    assert told["anywhere-p10"].effect.mean == pytest.approx(apart)
    assert told["anywhere-p0"].effect is None
    assert told["half-p20"].effect is None
    assert (told["keys"].learning_rate, told["keys"].rate_of_none) == (2e-3, 1e-3)
    assert (told["half-p20"].learning_rate, told["half-p20"].rate_of_none) == (1e-3, None)


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
    assert [one.loss for one in found] == pytest.approx([4.55, 4.25, 4.15])
    assert [one.effect.mean for one in found] == pytest.approx([0.5, 0.2, 0.1])


@pytest.mark.parametrize("apart", [-0.1, 0.1])
def test_the_head_says_where_dropout_left_on_is_better(apart: float) -> None:
    made = results()
    test = made.at("p0", 4).test
    found = difference(0 * test + made.sizes * apart + 0.001 * test, made)
    on = [LeftOn("passes-p20", 64, passes, 3.9, found) for passes in (4, 16)]
    said = with_masks(on, {"p20": "0.2"})
    assert bool(said) == (found.high < 0) == (apart < 0)
    if said:
        assert "the mean of 16 passes, p 0.2 with 64 readings has 3.900, " in said
        assert f"{-found.mean:.3f} ({-found.high:.3f} to {-found.low:.3f}) below" in said
    assert with_masks(on[:1], {"p20": "0.2"}) == ""
