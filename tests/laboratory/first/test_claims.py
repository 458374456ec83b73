"""A verdict is where the intervals lie: what is there is found, what is not is not."""

import numpy as np
import pandas as pd
import pytest

from laboratory.first.claims import CLAIMS
from laboratory.first.plan import load
from laboratory.first.results import Found, Results
from laboratory.first.verdicts import (
    NEGATIVE,
    OFF,
    POSITIVE,
    Claim,
    Finding,
    Terms,
    measured,
    verdict,
)

SEEDS = (1, 2, 3, 4, 5)
BEST = "best in 4"
DIFFERENCE: dict[str, Terms] = {
    measure: {("b", measure): 1.0, ("a", measure): -1.0} for measure in (BEST, "after 2", OFF)
}


def a_run(loss: float, tokens: list[float] | None = None) -> Found:
    curve = pd.DataFrame({"readings": [0, 1, 2, 4], "loss": [loss + 1, loss + 0.5, loss, loss]})
    documents = pd.DataFrame({"tokens": [10] * 40, "bytes": [30] * 40, "nats": [10 * loss] * 40})
    each = None if tokens is None else np.array(tokens)
    return Found({}, 1, curve, [loss], documents, each)


def planted(effect: float, noise: float) -> Results:
    """Runs of `a` and `b` whose losses differ by `effect`, more or less."""
    found = {}
    for number, seed in enumerate(SEEDS):
        found["a", seed] = a_run(5.0)
        found["b", seed] = a_run(5.0 + effect + noise * (number - 2))
    return Results(found)


@pytest.mark.parametrize("measure", DIFFERENCE)
@pytest.mark.parametrize(
    ("effect", "noise", "expected"),
    [(0.1, 0.01, "agrees"), (-0.1, 0.01, "disagrees"), (0.1, 0.5, "cannot tell")],
)
def test_a_verdict_is_where_the_interval_lies(
    measure: str, effect: float, noise: float, expected: str
) -> None:
    opposite = {key: -weight for key, weight in DIFFERENCE[measure].items()}
    findings = [Finding("", DIFFERENCE[measure], POSITIVE), Finding("", opposite, NEGATIVE)]
    assert verdict(Claim("", "", "above 0", findings), planted(effect, noise)).said == expected


@pytest.mark.parametrize("expected", [POSITIVE, (0.2, 0.3), (0.0, 0.05)])
def test_a_claim_with_an_interval_on_either_side_of_its_region_disagrees(
    expected: tuple[float, float],
) -> None:
    effect = -0.1 if expected is POSITIVE else 0.1
    claim = Claim("", "", "a region", [Finding("", DIFFERENCE[BEST], expected)])
    assert verdict(claim, planted(effect, 0.01)).said == "disagrees"


def test_the_lowest_is_named_if_it_is_surely_lower() -> None:
    findings = [Finding(name, {(name, BEST): 1.0}, POSITIVE) for name in "ab"]
    assert verdict(Claim("", "", "", findings), planted(0.1, 0.01)).said == "a"
    assert verdict(Claim("", "", "", findings), planted(-0.1, 0.01)).said == "b"
    assert verdict(Claim("", "", "", findings), planted(0.1, 0.5)).said == "cannot tell"


def test_what_was_not_run_is_not_judged() -> None:
    claim = Claim("", "", "below 0", [Finding("", {("c", BEST): 1.0}, NEGATIVE)])
    assert verdict(claim, planted(0.1, 0.01)).said == "not yet run"
    too_long = Claim("", "", "below 0", [Finding("", {("a", "after 8"): 1.0}, NEGATIVE)])
    assert verdict(too_long, planted(0.1, 0.01)).said == "not yet run"
    unmeasured = Claim("", "", "below 0", [Finding("", {("a", "nats_dropout_on"): 1.0}, NEGATIVE)])
    assert verdict(unmeasured, planted(0.1, 0.01)).said == "not yet run"


def test_without_any_effect_as_many_claims_agree_as_chance_lets() -> None:
    """Of 20 claims about noise a fortieth agrees, whatever number of them is looked at."""
    random = np.random.default_rng(0)
    agreeing = 0
    for _ in range(50):
        found = {("a", seed): a_run(5.0) for seed in SEEDS}
        for number in range(20):
            for seed in SEEDS:
                found[f"b{number}", seed] = a_run(5.0 + random.normal(0, 0.02))
        results = Results(found)
        for number in range(20):
            terms = {(f"b{number}", BEST): 1.0, ("a", BEST): -1.0}
            claim = Claim("", "", "below 0", [Finding("", terms, NEGATIVE)])
            agreeing += verdict(claim, results).said == "agrees"
    assert 13 <= agreeing <= 38  # of 1,000; 25 expected


def test_an_ensemble_takes_the_mean_of_the_probabilities() -> None:
    """Two models, each sure of other tokens."""
    losses = [[0.1] * 200 + [3.0] * 200, [3.0] * 200 + [0.1] * 200]
    found = {("a", seed): a_run(1.55, each) for seed, each in enumerate(losses)}
    ensemble = measured({("a", "ensemble"): 1.0}, Results(found))
    assert ensemble is not None
    expected = -np.log((np.exp(-0.1) + np.exp(-3)) / 2)
    assert ensemble.mean == pytest.approx(expected)


def test_every_claim_asks_for_what_the_plan_runs() -> None:
    """Its variants, within the trainings' length, and measured where it asks for that."""
    plan = load()
    for claim in CLAIMS:
        for variant, measure in (key for one in claim.findings for key in one.terms):
            params = plan.params(variant, 1)
            windows = (params.train.tokens or 0) // params.model.n_ctx
            readings = params.train.steps * params.train.batch_size / windows
            kind, _, number = measure.rpartition(" ")
            assert not number.isdigit() or int(number) <= readings
            assert kind in ("", "after", "best in", "best at")
            assert "_" not in measure or params.measure.dropout_on
            assert measure != "ensemble" or params.measure.tokens
