"""A dvc.lock that a kill broke off."""

from pathlib import Path

import pytest
from dvc.utils.serialize import parse_yaml

from laboratory.pipeline import Pipeline
from laboratory.plan import Size

PIPELINE = Pipeline(Size("small").folder)
KEPT, LOCK = PIPELINE.kept, PIPELINE.lock
STAGE = """\
  map@p{0}-1:
    cmd: python3 -m laboratory.run small p{0} 1
    deps:
    - path: laboratory/small/setting.json
      hash: md5
      md5: b91059edfd4b1944a0ee630143adb64a
      size: 5778
    params:
      laboratory/small/variants.json:
        p{0}:
          model.dropout: 0.{0}
          train.tokens:
    outs:
    - path: laboratory/small/runs/p{0}-1.json
      hash: md5
      md5: f225406511547fd28daf296f1899c305
      size: 8022
"""
WHOLE = "schema: '2.0'\nstages:\n" + "".join(map(STAGE.format, (1, 2, 3)))


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A laboratory that was killed when three of its runs had been made."""
    monkeypatch.chdir(tmp_path)
    KEPT.parent.mkdir(parents=True)
    KEPT.write_text(WHOLE)
    LOCK.parent.mkdir(parents=True)


@pytest.mark.usefixtures("kept")
def test_wherever_a_lock_breaks_off_no_stage_but_its_last_is_lost() -> None:
    stages = parse_yaml(WHOLE, LOCK)["stages"]
    between = [WHOLE.index(f"  map@p{number}") for number in (1, 2, 3)]
    for end in [*range(0, len(WHOLE), 29), *between]:
        LOCK.write_text(WHOLE[:end])
        PIPELINE.mend_lock()
        found = parse_yaml(LOCK.read_text(), LOCK)["stages"]
        assert list(found) == list(stages)
        assert [found[name] for name in list(stages)[:-1]] == [*stages.values()][:-1]
        if end <= WHOLE.index("map@p3-1:"):
            assert LOCK.read_text() == WHOLE


@pytest.mark.usefixtures("kept")
def test_what_has_been_made_since_the_copy_stays() -> None:
    since = WHOLE.replace("0.1\n", "0.15\n") + STAGE.format(4)
    LOCK.write_text(since)
    PIPELINE.mend_lock()
    assert LOCK.read_text() == since


@pytest.mark.usefixtures("kept")
def test_only_a_laboratory_that_did_not_end_well_leaves_a_copy() -> None:
    LOCK.write_text(WHOLE)
    with pytest.raises(KeyboardInterrupt), PIPELINE.kept_lock():
        raise KeyboardInterrupt
    assert KEPT.read_text() == WHOLE
    with PIPELINE.kept_lock():
        pass
    LOCK.write_text(WHOLE.removesuffix(STAGE.format(3)))
    earlier = LOCK.read_text()  # of a commit, say, that the user has gone back to
    PIPELINE.mend_lock()
    assert LOCK.read_text() == earlier


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("kept_ones", [(1, 3), (5, 2), (4, 5, 6)])
def test_a_lock_of_another_commit_is_not_torn(
    capsys: pytest.CaptureFixture[str], kept_ones: tuple[int, ...]
) -> None:
    """It lacks stages that were given up since the copy, and may end in one that is new."""
    other = "schema: '2.0'\nstages:\n" + "".join(map(STAGE.format, kept_ones))
    LOCK.write_text(other)
    assert list(PIPELINE.mend_lock()) == [f"map@p{number}-1" for number in kept_ones]
    assert LOCK.read_text() == other
    assert "torn" not in capsys.readouterr().err
