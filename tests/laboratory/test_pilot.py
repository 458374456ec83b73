"""The page of the pilot with GPT-2 small."""

import re
from pathlib import Path

from laboratory import pilot


def test_the_page_is_what_the_runs_say() -> None:
    assert pilot.PAGE.read_text() == pilot.page()


def test_its_picture_has_a_line_for_each_run(tmp_path: Path) -> None:
    pilot.draw(tmp_path / "pilot.svg")
    for file in (tmp_path / "pilot.svg", pilot.PICTURE):
        lines = re.findall(r'<path d="M [^"]*"[^>]*stroke-linecap: square"', file.read_text())
        coloured = [line for line in lines if "#000000" not in line]
        assert len(coloured) == len(pilot.runs())


def test_what_its_first_lines_say_is_so() -> None:
    """The lowest is that of p = 0.3 for both kinds of windows, and that of 0.5 its last."""
    found = pilot.runs()
    best = found.groupby(["windows", "p"]).best.mean().unstack()
    assert best.idxmin(axis=1).eq(0.3).all()
    still_falling = found[found.p == 0.5]
    assert (still_falling["at reading"] == still_falling.readings).all()
    told = re.search(r"(\d\.\d+) nats a token below", pilot.page())
    assert told
    assert float(told[1]) == round(best.loc["anywhere", 0.0] - best.loc["anywhere", 0.3], 3)
