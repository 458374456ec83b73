import re
import sys

import pytest

from dropgpt.machine.progress import progress


def test_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert not sys.stderr.isatty()
    with progress("train", "tokens", 1e-9, 2000) as bar:
        for _ in range(2):
            bar.set_postfix_str("loss 7.123", refresh=False)
            bar.update(1000)
    printed = capsys.readouterr().err
    assert "\r" not in printed
    assert re.search(
        r"^train: 1\.00k of 2\.00k tokens, 50%, \S+ elapsed, \S+ tokens/s, \S+ left, loss 7\.123$",
        printed,
        re.MULTILINE,
    )


def test_a_bar_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    list(progress("sample", "generations", 10, iterable=range(3)))
    assert "\rsample: 100%|" in capsys.readouterr().err


def test_a_total_that_nobody_knows(capsys: pytest.CaptureFixture[str]) -> None:
    list(progress("tokenize", "documents", 10, iterable=iter(range(3))))
    assert "tokenize: 3 documents, " in capsys.readouterr().err
