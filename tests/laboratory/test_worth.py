"""The gain of dropout given the rest."""

from dataclasses import replace

import pytest

from conftest import ROOT
from laboratory.plan import Size
from laboratory.results import Losses, Results, ensemble
from laboratory.sentences import beside_the_rest, of_ensembles
from laboratory.worth import best_ensemble, conditions, gains, lowest
from made_up import results

GIVEN = {
    "": "weight decay 0.1, windows moving",
    "wd1-": "weight decay 1, windows moving",
    "wd3-": "weight decay 3, windows moving",
}


def test_conditions_are_called_what_the_plan_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    plan = Size("small").load()
    assert GIVEN.items() <= conditions(plan).items()
    plan.base["train"] |= {"weight_decay": 0.05, "sampling": "random"}
    given = conditions(plan)
    assert given[""] == "weight decay 0.05, windows anywhere"
    assert given["wd1-fixed-"] == "weight decay 1, windows fixed"
    assert "wd2-" not in given


def test_the_gain_is_told_of_each_condition_that_was_run() -> None:
    """Of four rates; with a weight decay of 1 dropout does nothing here."""
    helps, nothing = results(), results(effect=0)
    settings = helps.settings | {"p20": helps.settings["p30"]}
    of_decay = {f"wd1-{p}": nothing.settings["p0"] for p in ("p0", "p10", "p20", "p30")}
    without, given = gains(Results(settings | of_decay, helps.sizes), 16, GIVEN)
    assert (without.given, without.p) == ("weight decay 0.1, windows moving", "0.2")
    assert without.found is not None
    assert without.found.mean == pytest.approx(-0.12, abs=0.01)
    assert without.losses[1] - without.losses[0] == pytest.approx(without.found.mean)
    assert (given.given, given.p, given.found) == ("weight decay 1, windows moving", "0", None)


def test_what_does_more_than_dropout_is_told_with_its_interval() -> None:
    """By the development loss, of all lengths; what the map has is no news."""
    found = results()
    settings = found.settings | {"p20": found.settings["p30"]}
    lower = {
        f"wd1-{p}": {16: Losses(one.development - 0.2, one.test - 0.2 * found.sizes)}
        for p in ("p0", "p10", "p20", "p30")
        for one in [settings["p0"][16]]
    }
    together = {
        ensemble(f"ensembles-{p}", 2): {
            n: Losses(one.development - 1, one.test) for n, one in settings[p].items()
        }
        for p in ("p0", "p10", "p20", "p30")
    }
    for some, news in ((settings | together, False), (settings | lower | together, True)):
        whole = Results(some, found.sizes)
        best = lowest(whole, {8: [], 16: gains(whole, 16, GIVEN)}, GIVEN)
        assert (best is not None) == news
    assert best is not None
    assert (best.readings, best.gain.given) == (16, "weight decay 1, windows moving")
    assert best.map == ("0.2", 16)
    assert (best.lengths, best.among) == ([16], 4)
    assert best.effect.mean == pytest.approx(whole.loss("wd1-p0", 16) - whole.loss("p20", 16))
    assert best.effect.low < best.effect.mean < best.effect.high < 0
    said = beside_the_rest(best)
    assert "weight decay 1, windows moving, read 16 times, has the lowest loss on the" in said
    assert f"{-best.effect.mean:.3f} ({-best.effect.high:.3f} to {-best.effect.low:.3f})" in said
    assert (
        "below that of p 0.2 with 16 readings, the best of the map by the 5 seeds that both have; "
        "the interval allows for the 4 settings that it was chosen from." in said
    )
    assert "was run at 16 readings only." in said
    nobody_knows = replace(best, effect=replace(best.effect, high=0.01))
    assert "chosen from. That is not sure." in beside_the_rest(nobody_knows)
    assert beside_the_rest(None) == ""
    one = settings["p20"][16]
    longer = settings["p20"] | {64: Losses(one.development - 0.1, one.test - 0.1 * found.sizes)}
    whole = Results(settings | lower | {"p20": longer}, found.sizes)
    beside = lowest(whole, {16: gains(whole, 16, GIVEN)}, GIVEN)
    assert beside is not None
    assert beside.map == ("0.2", 64)
    assert beside.effect.mean == pytest.approx(best.effect.mean + 0.1)


def test_of_one_seed_in_common_nothing_is_said() -> None:
    found = results()
    settings = found.settings | {"p20": found.settings["p30"]}
    one = found.at("p0", 16)
    alone = Losses(one.development.iloc[:1], one.test.iloc[:1])
    of_decay = {f"wd1-{p}": {16: alone} for p in ("p0", "p10", "p20", "p30")}
    assert gains(Results(settings | of_decay, found.sizes), 16, GIVEN) == []


def test_without_the_maps_condition_nothing_is_beside_it() -> None:
    found = results()
    rates = ("p0", "p10", "p20", "p30")
    settings = {f"wd{n}-{p}": {16: found.at("p0", 16)} for p in rates for n in (1, 3)}
    whole = Results(settings, found.sizes)
    assert lowest(whole, {16: gains(whole, 16, GIVEN)}, GIVEN) is None


def test_ensembles_are_chosen_by_their_own_losses() -> None:
    """Of single models p 0.2 is best here, of two together no dropout."""
    helps, costs = results(), results(effect=-1)
    rates = {"p0": "p0", "p10": "p10", "p20": "p30", "p30": "p30"}
    settings = {
        ensemble(f"ensembles-{p}", members): {16: of.at(source, 16)}
        for members, of in ((1, helps), (2, costs))
        for p, source in rates.items()
    }
    single, two = gains(Results(settings, helps.sizes), 16, GIVEN)
    assert (single.given, single.p) == ("single models on the same texts", "0.2")
    assert single.found is not None
    assert single.found.mean == pytest.approx(-0.12, abs=0.01)
    assert (two.given, two.p, two.found) == ("ensembles of 2", "0", None)


def test_the_best_ensemble_is_told_beside_the_best_single_model() -> None:
    """By development losses, on the texts that both have read."""
    found = results()
    settings = found.settings | {"p20": found.settings["p30"]}
    assert best_ensemble(Results(settings, found.sizes), 3) is None
    assert of_ensembles(None) == ""

    def three(of: Losses, lower: float) -> Losses:
        test = of.test[:3] - lower * found.sizes
        return Losses(of.development[:3] - lower, test)

    ensembles = {
        ensemble("ensembles-p0", 3): {n: three(settings["p0"][n], 0.1) for n in (4, 16)},
        ensemble("ensembles-p20", 3): {16: three(settings["p20"][16], 0.1)},
        ensemble("ensembles-p20", 5): {16: three(settings["p20"][16], 0.5)},
    }
    whole = Results(settings | ensembles, found.sizes)
    best = best_ensemble(whole, 3)
    assert best is not None
    assert (best.best, best.map, best.among) == (("0.2", 16), ("0.2", 16), 3)
    assert best.loss == pytest.approx(whole.loss(ensemble("ensembles-p20", 3), 16))
    assert best.effect.mean == pytest.approx(-0.1)
    assert best.effect.chance.seeds == 3
    said = of_ensembles(best)
    assert f"has {best.loss:.3f}: with p 0.2 and 16 readings each" in said
    assert "below one model of p 0.2 with 16 readings, by 3 seeds" in said
    assert of_ensembles(replace(best, effect=replace(best.effect, high=0.01))) == ""


def test_all_conditions_are_of_the_same_seeds() -> None:
    found = results()
    settings = found.settings | {"p20": found.settings["p30"]}
    fewer = {
        f"wd1-{p}": {16: Losses(one.development[:3], one.test[:3])}
        for p in ("p0", "p10", "p20", "p30")
        for one in [settings[p][16]]
    }
    alone, (without, given) = (
        gains(Results(some, found.sizes), 16, GIVEN) for some in (settings, settings | fewer)
    )
    assert [one.seeds for one in alone] == [[1, 2, 3, 4, 5]]
    assert without.seeds == given.seeds == [1, 2, 3]
    assert without.losses == given.losses != alone[0].losses
