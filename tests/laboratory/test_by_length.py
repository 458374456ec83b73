"""What to set, and what it gains."""

import re

import pytest

from laboratory import by_length, tables
from laboratory.claims import CLAIMS
from laboratory.judge import CANNOT_TELL, NOT, Verdict
from laboratory.results import Losses, Results
from laboratory.sentences import answer, notes
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
    said = answer(rows, bests, NAMED)
    assert said.startswith(
        "- Read 1 to 4 times: **0**; not surely worse: 0.1 at 4, 0.3 at 4.\n"
        "- Read 16 times: **0.3**.\n"
        "- If you may choose how often: 0.3 with 16 readings (the most that were run) gains 0.1"
    )
    assert said.endswith(" nats a token over no dropout with 16 readings (the most that were run).")


def test_what_is_as_good_with_another_number_of_readings_is_named() -> None:
    found = results()
    best = found.at("p30", 16)
    found.settings["p10"] = {4: Losses(best.development + 1e-4, best.test), 16: found.at("p10", 16)}
    bests = by_length.bests(found, SETTINGS)
    assert [one.tied for one in bests] == [False, True, False]
    assert [one.at_end for one in bests] == [True, False, True]
    assert answer([], bests, NAMED).endswith("; not surely worse: 0.1 with 4 readings.")
    table = tables.bests(bests, NAMED)
    assert table["beside the best"].tolist() == ["worse", "not surely worse", "**the best**"]
    assert table["readings"].tolist() == ["16, the most that were run", "4", table.readings[0]]


def test_the_answer_says_what_is_as_good_and_what_is_not_sure() -> None:
    found = results(effect=0)
    rows, bests = by_length.rows(found, SETTINGS), by_length.bests(found, SETTINGS)
    said = answer(rows, bests, NAMED)
    assert re.search(r": \*\*0(\.\d)?\*\*; not surely worse: 0(\.\d)?, 0(\.\d)?\.", said)
    assert re.search("is not surely better than no dropout with|is best; not surely worse: 0", said)


def test_what_development_documents_chose_may_be_worse_on_test_documents() -> None:
    found = results()
    found.at("p10", 1).development[:] = 0.0
    said = answer([], by_length.bests(found, SETTINGS), NAMED)
    assert "0.1 with 1 reading was chosen, and on the test documents no dropout with 16" in said
    assert "is better: a gain of -0." in said


def test_the_interval_of_a_gain_allows_for_the_choice_among_rates() -> None:
    """Of two rates: each at 97.5%."""
    found = results()
    row = by_length.rows(found, SETTINGS)[-1]
    alone = row.effects[row.best]
    assert row.gain is not None
    assert (row.gain.mean, row.gain.confidence) == (alone.mean, pytest.approx(0.975))
    assert row.gain.low < alone.low
    assert by_length.bests(found, SETTINGS)[-1].effect == row.gain


def test_a_row_has_the_lengths_that_all_rates_have() -> None:
    found = results()
    short = Results(found.settings | {"p0": {4: found.at("p0", 4)}}, found.sizes)
    assert [row.readings for row in by_length.rows(short, SETTINGS)] == [4]


def test_what_verdicts_do_not_say_is_told_where_it_is_so() -> None:
    found = results()
    bests = by_length.bests(found, SETTINGS)
    other, too_much = ([Verdict(said)] * len(CLAIMS) for said in (CANNOT_TELL, NOT))
    assert notes(other, found, bests) == ""
    assert "So claims 7, 14 and 15 say that less is better there" in notes(too_much, found, bests)
    found.settings["muon-p0"] = {4: found.at("p0", 4)}
    assert "Muon was run at 4 only" in (said := notes(other, found, bests))
    assert "without dropout 16 readings are best with AdamW" in said
    found.settings["muon-p0"] |= {16: found.at("p0", 16)}
    assert notes(other, found, bests) == ""
