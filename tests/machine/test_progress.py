import contextlib
import os
import re
import sys
import termios

import pytest

from conftest import second_of_two
from dropgpt.machine.progress import progress


def test_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert not sys.stderr.isatty()
    with progress("train", "tokens", 1e-9, 20_000) as bar:
        for _ in range(2):
            bar.set_postfix_str("loss 7.123", refresh=False)
            bar.update(10_000)
    printed = capsys.readouterr().err
    assert "\r" not in printed
    assert re.search(
        r"^train: 10\.0k of 20\.0k tokens, 50%, \S+ elapsed, \S+ tokens/s, \S+ left, loss 7\.123$",
        printed,
        re.MULTILINE,
    )


def test_a_bar_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    list(progress("sample", "generations", 10, total=3, iterable=range(3)))
    assert "\rsample: 100%|" in capsys.readouterr().err


def test_the_bar_of_a_training_fits_into_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with os.fdopen(theirs, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        with progress("train", "tokens", 10, 1_802_240) as bar:
            bar.start_t -= 4000
            bar.set_postfix_str("loss 10.123, held-out 11.051", refresh=False)
            bar.update(450_560)
    told = b""  # handed over by the kernel in parts, when it likes
    with contextlib.suppress(OSError):  # Linux's way to say that a closed terminal has no more
        while part := os.read(ours, 10_000):
            told += part
    os.close(ours)
    last = re.split(r"[\r\n]+", told.decode().strip())[-1]
    assert len(last) <= 80
    assert last.startswith("train:  25%|")
    assert last.endswith("| [1:06:40<3:20:00, 113 tokens/s, loss 10.123, held-out 11.051]")


@pytest.mark.parametrize("terminal", [False, True])
def test_few_things_are_whole_numbers_and_slow_ones_are_seconds_each(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with progress("laboratory", "runs", 1e-9, 12) as bar:
        bar.start_t -= 2112
        bar.update(3)
    last = re.split(r"[\r\n]+", capsys.readouterr().err.strip())[-1]
    if terminal:
        assert re.search(r"^laboratory:  25%\|.*\| 3/12 \[35:12<1:45:36, 704 s a run\]", last)
    else:
        assert last == "laboratory: 3 of 12 runs, 25%, 35:12 elapsed, 704 s a run, 1:45:36 left"


def test_a_speed_that_nobody_knows_yet(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("sample", "generations", 1e-9, 12):
        pass
    assert "0 of 12 generations, 0%, 00:00 elapsed, ? generations/s, ? left" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("terminal", [False, True])
def test_what_is_soon_done_shows_nothing(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    list(progress("compare", "runs", 1e-9, 3, range(3), delay=100))
    assert capsys.readouterr().err == ""
    with progress("compare", "runs", 1e-9, 3, delay=100) as bar:
        bar.start_t -= 101
        bar.update()
    assert "compare: " in capsys.readouterr().err


def test_of_several_processes_the_first_one_tells_and_what_is_left_of_a_launcher_hides_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    list(progress("tokenize", "documents", 10, iterable=iter(range(3))))
    assert "tokenize: 3 documents, " in capsys.readouterr().err
    second_of_two(monkeypatch)
    list(progress("tokenize", "documents", 10, iterable=iter(range(3))))
    assert not capsys.readouterr().err


def test_a_total_that_nobody_knows(capsys: pytest.CaptureFixture[str]) -> None:
    list(progress("tokenize", "documents", 10, iterable=iter(range(3))))
    assert "tokenize: 3 documents, " in capsys.readouterr().err
