"""The runs and claims of RESULTS.md, on models that are too small to mean anything."""

import sys

import numpy as np
import pandas as pd
import pytest

from clone import Clone
from conftest import params_with, tiny_model
from dropgpt.model.gpt import initialised
from dropgpt.tokens.tensor import TokenTensor
from results.__main__ import share_unseen
from results.claims import (
    BEST,
    BEST_STEP,
    NEGATIVE,
    OFF,
    POSITIVE,
    Claim,
    Finding,
    Results,
    verdict,
)
from results.runs import SEEDS, Found, leave_attention_on, sums

TINY = """
BASE |= {"model.n_embd": 16, "model.n_ctx": 16, "train.steps": 4, "train.batch_size": 2}
BASE |= {"train.validation_interval": 2, "train.validation_windows": 2, "evaluate.stride": 16}
SEEDS = (1, 2)
for own in VARIANTS.values():
    own["train.tokens"] = 300
VARIANTS["early only"]["train.dropout_switch_step"] = 2
"""


def test_one_command_makes_the_runs_and_the_report(clone: Clone) -> None:
    with (clone.folder / "results/runs.py").open("a") as file:
        file.write(TINY)
    printed = clone.run(sys.executable, "-m", "results").stdout
    report = clone.folder / "RESULTS.md"
    assert report.read_text().strip() == printed.strip()
    rows = [line.split(" | ") for line in printed.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows[2:14]] == [f"| {number}" for number in range(1, 13)]
    assert all(len(row) == 6 and "nan" not in row[4] for row in rows[2:14])
    made = {path: path.stat().st_mtime_ns for path in clone.folder.glob("results/runs/*")}
    plots = [clone.folder / f"docs/{name}.svg" for name in ("effects", "validations")]
    before = [path.read_bytes() for path in (report, *plots)]
    clone.run(sys.executable, "-m", "results")
    assert made == {path: path.stat().st_mtime_ns for path in clone.folder.glob("results/runs/*")}
    assert before == [path.read_bytes() for path in (report, *plots)]


def test_only_the_attention_weights_are_left_to_dropout() -> None:
    documents = pd.DataFrame({"tokens": [20, 30]})
    ids = np.arange(50, dtype=np.uint16)

    def losses(site: str, left_on: bool) -> list[float]:
        model = initialised(tiny_model(**({"dropout": 0.0} | {site: 0.5})), 1).eval()
        if left_on:
            leave_attention_on(model)
        return list(sums(model, ids, documents, params_with().evaluate))

    for site in ("embedding", "attention_output", "mlp"):
        assert losses(site, left_on=True) == losses(site, left_on=False)
    assert losses("attention", left_on=True) != losses("attention", left_on=False)


def test_the_share_of_held_out_tokens_that_were_never_read() -> None:
    documents = pd.DataFrame({"tokens": [4, 4], "held_out": [False, True]})
    tensor = TokenTensor(np.array([1, 2, 3, 4, 4, 3, 5, 3], dtype=np.uint16), documents)
    assert share_unseen(tensor, 3) == 0.5
    assert share_unseen(tensor, None) == 0.25


def planted(effect: float, noise: float) -> Results:
    """Runs of `a` and `b` whose losses differ by `effect`, more or less."""
    found = {}
    for number, seed in enumerate(SEEDS):
        for variant, loss in (("a", 5.0), ("b", 5.0 + effect + noise * (number - 2))):
            documents = pd.DataFrame({"tokens": [10] * 40, "nats": [10 * loss] * 40})
            outcome = {BEST: loss, BEST_STEP: 100 * loss}
            found[variant, seed] = Found({}, outcome, pd.DataFrame(), documents)
    return found


@pytest.mark.parametrize("measure", [BEST, OFF])
@pytest.mark.parametrize(
    ("effect", "noise", "expected"),
    [(0.1, 0.01, "agrees"), (-0.1, 0.01, "disagrees"), (0.1, 0.5, "cannot tell")],
)
def test_a_verdict_is_where_the_interval_lies(
    measure: str, effect: float, noise: float, expected: str
) -> None:
    difference = {("b", measure): 1.0, ("a", measure): -1.0}
    opposite = {key: -weight for key, weight in difference.items()}
    findings = [Finding("", difference, POSITIVE), Finding("", opposite, NEGATIVE)]
    assert verdict(Claim("", "", "above 0", findings), planted(effect, noise)) == expected


def test_the_lowest_is_named_if_it_is_surely_lower() -> None:
    findings = [Finding(name, {(name, BEST): 1.0}, POSITIVE) for name in "ab"]
    assert verdict(Claim("", "", "", findings), planted(0.1, 0.01)) == "a"
    assert verdict(Claim("", "", "", findings), planted(-0.1, 0.01)) == "b"
    assert verdict(Claim("", "", "", findings), planted(0.1, 0.5)) == "cannot tell"
