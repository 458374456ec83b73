"""RESULTS.md says what the runs in git say."""

import re

import pytest

from conftest import ROOT
from dropgpt.params import load as load_params
from laboratory.first import judge, plan, rates
from laboratory.first.results import read

NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*")


def test_the_page_is_what_the_runs_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last digit but one: sums may come out otherwise on another processor."""
    monkeypatch.chdir(ROOT)
    chosen = plan.load()
    results = read(chosen)
    known = rates.rates(results, chosen.groups["map"].variants)
    table = rates.curves(results, known)
    params = load_params(ROOT / "params.yaml")
    page = judge.report(chosen, results, known, table, params)
    committed = (ROOT / "RESULTS.md").read_text(encoding="utf-8")
    assert NUMBER.sub("#", page) == NUMBER.sub("#", committed)
    for ours, theirs in zip(numbers(page), numbers(committed), strict=True):
        assert ours == pytest.approx(theirs, abs=0.0025)


def numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]
