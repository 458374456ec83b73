"""Claims judged together."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from conftest import ROOT
from dropgpt.comparison.interval import Chance
from laboratory.claims import ABOVE, BELOW, CLAIMS, EQUAL, at, gain, monte_carlo
from laboratory.judge import Claim, holm, judge
from laboratory.plan import TUNING, RunParams, Size, setting
from laboratory.results import Losses, NotRunError, Results, ensemble
from laboratory.simulate import found
from laboratory.worth import RATES as WORTH
from made_up import results


def test_holm_rejects_one_after_the_other_by_a_stricter_level_where_more_are_left() -> None:
    """0.005 is below 5%/4 and 0.01 below 5%/3, but 0.03 is not below 5%/2, and there it ends."""
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("region", "number", "said"),
    [
        (BELOW, -0.05, "holds"),
        (BELOW, 0.05, "does not hold"),
        (BELOW, 0.0, "cannot tell"),
        (ABOVE, 0.05, "holds"),
        (EQUAL, 0.0, "holds"),
        (EQUAL, 0.01, "cannot tell"),
        (EQUAL, -0.05, "does not hold"),
        ((-math.inf, 0.01), 0.0, "holds"),
    ],
)
def test_a_claim_holds_where_its_number_is_surely_in_its_region(
    region: tuple[float, float], number: float, said: str
) -> None:
    sizes = np.full(100, 50)
    each = np.random.default_rng(1).normal(0, 1, (5, 100))
    each = (each - each.mean()) * 0.01
    here = Losses(pd.Series(np.zeros(5)), pd.DataFrame((number + each) * sizes))
    there = Losses(pd.Series(np.zeros(5)), pd.DataFrame(0 * each))
    runs = Results({"here": {8: here}, "there": {8: there}}, sizes)
    (verdict,) = judge([Claim("", "", "", region, at(8, "here", "there"))], runs)
    assert verdict.said == said


def test_a_claim_whose_runs_are_missing_is_not_judged_and_still_counts() -> None:
    """At a p value of 0.03 one claim alone would be decided."""
    none = results(effect=0)
    claim = Claim("", "", "", BELOW, at(4, "p30", "p0"))
    missing = Claim("", "", "", BELOW, at(4, "p30", "no such setting"))
    said = [one.said for one in judge([claim, missing], none)]
    assert said == ["cannot tell", "not yet judged"]
    sure = results()
    p = judge([claim], sure)[0].p
    among = judge([claim, *[missing] * int(0.06 / p)], sure)
    assert among[0].said == "cannot tell"


def test_the_plan_has_the_runs_that_a_claim_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of them that the plan has so far; the numbers are those of design.md.

    The longest training is best, as that of p 0.2 was, whose length claim 19 is of.
    """
    monkeypatch.chdir(ROOT)
    plan = Size("small").load()
    random = np.random.default_rng(0)
    sizes = np.full(20, 50)

    def losses(seeds: list[int], params: RunParams, readings: int) -> Losses:
        test = pd.DataFrame(random.normal(200, 1, (len(seeds), 20)), seeds)
        development = test.mean(axis=1) / 50 - readings
        return Losses(development, test, dict.fromkeys(params.monte_carlo, test))

    settings: dict[str, dict[int, Losses]] = {}
    for name, group in plan.groups.items():
        for variant in group.variants if not name.startswith(TUNING) else []:
            params = plan.params(variant, 1)
            found = {n: losses(group.seeds, params, n) for n in params.readings}
            for members in range(1, (params.members or 0) + 1):
                settings.setdefault(ensemble(setting(variant), members), {}).update(found)
            settings.setdefault(setting(variant), {}).update(found)
    verdicts = judge(CLAIMS, Results(settings, sizes))
    there = [number for number, one in enumerate(verdicts, start=1) if one.said != "not yet judged"]
    assert there == [*range(1, 21)]


def test_gains_are_compared_by_lengths_that_both_sides_have() -> None:
    """The map's rates are best at 64 readings, which half the text was not read."""
    found = results()
    for readings in (8, 12, 16, 32, 64):
        for p in WORTH:
            losses = found.at("p0", 16)
            shift = 0.0 if p == "p0" else 0.01 * readings
            moved = Losses(losses.development - shift, losses.test - shift * found.sizes)
            found.settings.setdefault(p, {})[readings] = moved
            if readings < 64:
                found.settings.setdefault(f"half-{p}", {})[readings] = moved
    assert gain("half-")(found).equals(gain()(found))
    del found.settings["half-p0"][12]
    with pytest.raises(NotRunError):
        gain("half-")(found)


def test_passes_are_those_of_the_length_that_suits_the_rate() -> None:
    found = results()
    losses = found.at("p30", 4)
    found.settings["passes-p30"] = {4: replace(losses, monte_carlo={4: losses.test - 1})}
    with pytest.raises(NotRunError, match="passes-p30 at 16 readings"):
        monte_carlo("p30", 4)(found)
    found.at("p30", 4).development[:] = 0.0
    assert monte_carlo("p30", 4)(found).mean(axis=None) == pytest.approx(-1)


def test_one_seed_is_never_a_verdict() -> None:
    """Nor one that both sides have, whatever else each has."""
    found = results()
    ours, theirs = found.at("p30", 16), found.at("p0", 16)
    found.settings["first"] = {16: Losses(ours.development[:2], ours.test[:2])}
    found.settings["last"] = {16: Losses(theirs.development[1:], theirs.test[1:])}
    (verdict,) = judge([Claim("", "", "", BELOW, at(16, "first", "last"))], found)
    assert verdict.said == "not yet judged"


def test_two_sides_that_are_one_thing_differ_in_nothing() -> None:
    """As where no dropout is best on both sides of a claim on gains."""
    (verdict,) = judge([Claim("", "", "", BELOW, at(4, "p0", "p0"))], results())
    assert (verdict.said, verdict.p) == ("cannot tell", 1.0)


def test_a_setting_is_chosen_by_the_seeds_that_all_have() -> None:
    """Seeds 4 and 5 read easy texts, and only one of the settings has them."""
    found = results()
    easy, other = found.at("p0", 16), found.at("p30", 16)
    easy.development.loc[[4, 5]] -= 2
    found.settings["few"] = {16: Losses(other.development[:3], other.test[:3])}
    assert found.development("p0", 16) < found.development("few", 16)
    assert found.chosen("p0", "few", among=(16,)) == "few"


def test_pages_on_which_nothing_is_true_say_something_in_5_of_100_and_find_what_is_planted() -> (
    None
):
    """Documents and seeds matter by turns."""
    sizes = np.arange(60, 260)
    kish = float(sizes.sum() ** 2 / (sizes**2).sum())
    spreads = [(1e-6, 1e-5), (4e-6, 1e-6), (1e-7, 2e-5), (4e-6, 1e-8)]
    chances = [Chance(spreads[n % 4][0], kish, spreads[n % 4][1], (5, 3)[n % 2]) for n in range(20)]
    regions = [claim.region for claim in CLAIMS]
    pages = 400
    assert found(regions, chances, sizes, pages, planted=False) <= 0.05 + 2 * 0.011
    assert found(regions, chances, sizes, pages, planted=True) == pytest.approx(0.8, abs=0.07)
