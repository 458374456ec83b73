"""The tables and paragraphs of `dropgpt compare`, by the width of the terminal."""

import math

import pandas as pd
import pytest

from dropgpt.comparison.tables import folded, markdown, narrow, plain, rounded

LONG = "a-branch-with-a-name-that-no-column-can-take"


def table() -> pd.DataFrame:
    """What `statistics.table` gives, with the widest numbers that training is likely to bring."""
    return pd.DataFrame(
        {
            "group": ["0.1, random", LONG],
            "runs": [10, 10],
            "seeds": [10, 10],
            "bits_per_byte": [13.77, 13.771],
            "spread": [0.0012, math.nan],
            "perplexity": [50257.04, 50257.08],
            "difference": [math.nan, 0.00123],
            "low": [math.nan, -0.00123],
            "high": [math.nan, 0.00369],
            "verdict": ["baseline", "cannot tell: no run of the baseline is alike in all else"],
        }
    )


def test_a_narrow_terminal_folds_words_and_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = plain(narrow(table(), "model.dropout, train.sampling")).splitlines()
    assert max(map(len, lines)) <= 80
    assert LONG in "".join(line[:11].strip() for line in lines)
    (numbers,) = [line for line in lines if "13.7710" in line]
    assert "10, 10   13.7710            50,257.1  +0.0012 ± 0.0025  cannot tell" in numbers


def test_a_wide_terminal_folds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    lines = plain(narrow(table(), "run")).splitlines()
    assert len(lines) == 4  # two of them the headings
    assert lines[-1].startswith(LONG)


def test_each_column_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    columns = [" ".join(name.split()) for name in narrow(table(), "run")]
    assert columns == [
        "run",
        "runs, seeds",
        "bits per byte",
        "spread",
        "perplexity",
        "difference (95% interval)",
        "verdict",
    ]


@pytest.mark.parametrize(
    "title", ["runs", "seeds", "spread", "perplexity", "difference", "verdict"]
)
def test_groups_may_be_made_by_what_is_called_as_a_column(title: str) -> None:
    for found in (rounded(table(), title), narrow(table(), title)):
        assert found.columns[0] == title
        assert found.iloc[:, 0].tolist() == ["0.1, random", LONG]
        assert "13.7700" in plain(found)


def test_names_are_shown_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    name = "[bold]corpora/a:b:c.txt"  # no markup, no emoji
    assert plain(pd.DataFrame({"id": [name], "bytes": ["1"]})).splitlines()[-1].startswith(name)


def test_a_paragraph_keeps_its_words_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    text = "a --long-option-with-hyphens and on"
    assert folded(text).splitlines() == ["a", "--long-option-with-hyphens", "and on"]


def test_no_name_breaks_a_table_of_markdown() -> None:
    found = markdown(pd.DataFrame({"a|b": ["c\nd", ""], "e": ["f", "|"]}))
    assert found.splitlines() == ["| a\\|b | e |", "| --- | --- |", "| c d | f |", "|  | \\| |"]
