"""The gain of dropout given the rest."""

from dataclasses import replace

import pytest

from laboratory.results import Losses, Results
from laboratory.worth import gains
from made_up import results


def test_the_gain_is_told_of_each_condition_that_was_run() -> None:
    """Of four rates; with a weight decay of 1 dropout does nothing here."""
    helps, nothing = results(), results(effect=0)
    settings = helps.settings | {"p20": helps.settings["p30"]}
    of_decay = {f"wd1-{p}": nothing.settings["p0"] for p in ("p0", "p10", "p20", "p30")}
    without, given = gains(Results(settings | of_decay, helps.sizes), 16)
    assert (without.given, without.p) == ("weight decay 0.1, windows moving", "0.2")
    assert without.found is not None
    assert without.found.mean == pytest.approx(-0.12, abs=0.01)
    assert without.losses[1] - without.losses[0] == pytest.approx(without.found.mean)
    assert (given.given, given.p, given.found) == ("weight decay 1, windows moving", "0", None)


def test_the_gain_of_ensembles_is_that_of_as_many_models_on_each_side() -> None:
    helps, nothing = results(), results(effect=0)

    def with_two(p: str) -> Losses:
        one = helps.at(p, 16)
        return replace(one, ensembles={1: one.test, 2: nothing.at(p, 16).test})

    rates = {"p0": "p0", "p10": "p10", "p20": "p30", "p30": "p30"}
    settings = {f"ensembles-{p}": {16: with_two(source)} for p, source in rates.items()}
    single, two = gains(Results(settings, helps.sizes), 16)
    assert (single.given, single.p) == ("single models on the same texts", "0.2")
    assert single.found is not None
    assert single.found.mean == pytest.approx(-0.12, abs=0.01)
    assert two.given == "ensembles of 2"
    assert two.found is not None
    assert two.found.mean == pytest.approx(0, abs=0.01)
