"""What else was run, beside the run that differs in having no dropout."""

import pytest

from conftest import ROOT
from laboratory.explored import explored
from laboratory.plan import Size
from laboratory.results import Results
from made_up import results


def test_each_setting_stands_beside_its_own_without_dropout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """p 0.1 with windows anywhere beside p 0 with such windows, and keys beside the map's p 0."""
    monkeypatch.chdir(ROOT)
    plan = Size("small").load()
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
