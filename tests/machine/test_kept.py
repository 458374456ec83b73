"""What is kept is what would be found."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dropgpt.machine import kept

SEVEN = {"weights": "7"}


class Finder:
    """Finds a table, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> pd.DataFrame:
        self.asked += 1
        loss = np.array([0.1, np.nan, 1e-45], dtype=np.float32)
        return pd.DataFrame({"before": [3, 1, 2], "loss": loss, "right": [True, False, True]})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(kept, "FOLDER", tmp_path / "measured")
    return tmp_path / "measured"


def test_a_table_is_found_once_and_comes_back_as_it_was(folder: Path) -> None:
    find = Finder()
    for _ in range(3):
        pd.testing.assert_frame_equal(kept.table(SEVEN, find), Finder()(), check_exact=True)
    assert find.asked == 1
    assert len(list(folder.iterdir())) == 1


def test_what_depends_on_something_else_is_found_for_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    find = Finder()
    kept.table(SEVEN, find)
    kept.table(SEVEN | {"tokens": "other"}, find)
    assert find.asked == 2
    code = tmp_path / "code"
    code.mkdir()
    for number, text in enumerate(["x = 1", "x = 2"], 3):
        (code / "a.py").write_text(text)
        monkeypatch.setattr(kept, "PACKAGE", code)
        kept.table(SEVEN, find)
        assert find.asked == number


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:20],
        lambda content: content[:-1],
        lambda content: bytes([content[0] ^ 1]) + content[1:],
        lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
    ],
)
def test_what_is_damaged_is_found_again(folder: Path, damage: Callable[[bytes], bytes]) -> None:
    find = Finder()
    kept.table(SEVEN, find)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    pd.testing.assert_frame_equal(kept.table(SEVEN, find), Finder()(), check_exact=True)
    assert find.asked == 2
    assert file.read_bytes() == whole


def test_those_not_asked_for_longest_make_room(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "NEWEST", 2)
    find = Finder()
    for number in range(2):
        kept.table({"number": number}, find)
        for file in folder.iterdir():  # clocks of file systems are coarse
            os.utime(file, (file.stat().st_mtime - 100,) * 2)
    kept.table({"number": 0}, find)
    kept.table({"number": 2}, find)
    assert len(list(folder.iterdir())) == 2
    kept.table({"number": 0}, find)
    assert find.asked == 3
    kept.table({"number": 1}, find)
    assert find.asked == 4


def test_where_nothing_can_be_kept_it_is_found_each_time(folder: Path) -> None:
    folder.write_text("no folder")
    find = Finder()
    for _ in range(2):
        pd.testing.assert_frame_equal(kept.table(SEVEN, find), Finder()(), check_exact=True)
    assert find.asked == 2
