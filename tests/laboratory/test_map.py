"""What to set, and what it gains."""

import re

import pytest

from laboratory import map as by_length
from laboratory import page
from laboratory.results import Results
from made_up import NAMED, results

SETTINGS = [*NAMED]


def test_the_best_rate_of_a_length_is_told_with_its_gain() -> None:
    once, four, sixteen = by_length.rows(results(), SETTINGS)
    assert (once.best, four.best, sixteen.best) == ("p0", "p0", "p30")
    assert once.gain is None
    assert sixteen.gain is not None
    assert sixteen.gain.mean == pytest.approx(0.3 * (0.4 - 0.2 * 4), abs=0.01)
    assert sixteen.effects["p10"].mean == pytest.approx(0.1 * (0.4 - 0.2 * 4), abs=0.01)
    assert (sixteen.ties, four.ties) == ([], ["p10", "p30"])


def test_it_is_chosen_on_development_documents() -> None:
    """Where those of p 0 are made the lowest, it is taken, whatever the test documents say."""
    found = results()
    found.at("p0", 16).development[:] = 0.0
    assert by_length.rows(found, SETTINGS)[-1].best == "p0"
    assert found.best("p0") == 16


def test_where_rates_do_not_differ_all_are_as_good() -> None:
    for row in by_length.rows(results(effect=0), SETTINGS):
        assert {row.best, *row.ties} == {*SETTINGS}


def test_each_rate_with_the_length_that_suits_it() -> None:
    none, _, last = by_length.bests(results(), SETTINGS)
    assert (none.readings, none.effect, none.chosen) == (16, None, {16: 1.0})
    assert last.effect is not None
    assert last.effect.high < 0


def test_the_answer_is_in_words() -> None:
    found = results()
    rows, bests = by_length.rows(found, SETTINGS), by_length.bests(found, SETTINGS)
    said = page.answer(rows, bests, NAMED)
    assert said.startswith("Read 1 to 4 times, the best rate of dropout is **0**. Read 16 times, ")
    assert "is **0.3**. If you may choose how often: 0.3 with 16 readings ends 0.1" in said
    assert said.endswith("below no dropout with 16.")


def test_the_answer_says_what_is_as_good_and_what_is_not_sure() -> None:
    found = results(effect=0)
    rows, bests = by_length.rows(found, SETTINGS), by_length.bests(found, SETTINGS)
    said = page.answer(rows, bests, NAMED)
    assert re.search(r"is \*\*0(\.\d)?\*\*, and 0(\.\d)? and 0(\.\d)? as good", said)
    assert re.search("is not surely better than no dropout with|no dropout is best", said)


def test_a_row_has_the_lengths_that_all_rates_have() -> None:
    found = results()
    short = Results(found.settings | {"p0": {4: found.at("p0", 4)}}, found.sizes)
    assert [row.readings for row in by_length.rows(short, SETTINGS)] == [4]
