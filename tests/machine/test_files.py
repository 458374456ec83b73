import os
from pathlib import Path

import pytest

from conftest import killed_before, needs_fork
from dropgpt.machine.files import replacing, write_json


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new/file.txt"
    with replacing(path) as partial:
        partial.write_text("old")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), replacing(path) as partial:
        partial.write_text("half of the n")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


def test_a_folder_takes_the_place_of_the_whole_old_one(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for name in ("old", "new"):
        with replacing(path) as partial:
            partial.mkdir()
            (partial / name).touch()
    assert [file.name for file in path.iterdir()] == ["new"]
    with pytest.raises(ZeroDivisionError), replacing(path) as partial:
        partial.mkdir()
        raise ZeroDivisionError
    assert [file.name for file in path.iterdir()] == ["new"]


@needs_fork
def test_a_kill_before_any_line_leaves_a_folder_whole_or_none(tmp_path: Path) -> None:
    def write(text: str) -> None:
        with replacing(tmp_path / "folder") as partial:
            partial.mkdir()
            for name in ("a", "b"):
                (partial / name).write_text(text)

    found = []
    line = 0
    killed = True
    while killed:
        write("old")
        killed = killed_before(line, lambda: write("new"))
        found.append([file.read_text() for file in (tmp_path / "folder").glob("*")])
        line += 1
    whole: list[list[str]] = [["old", "old"], [], ["new", "new"]]
    order = [whole.index(content) for content in found]
    assert order == sorted(order)
    assert {*order} == {0, 1, 2}


def test_bytes_are_on_the_disk_before_their_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the power's end would leave: never the new name of bytes that are not there."""
    done: list[str] = []

    def flushed(descriptor: int) -> None:
        done.append(Path(os.readlink(f"/dev/fd/{descriptor}")).name)

    def renamed(source: Path, target: Path) -> None:
        done.append(f"{source.name} -> {target.name}")
        rename(source, target)

    rename = os.replace
    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    with replacing(tmp_path / "folder") as partial:
        partial.mkdir()
        (partial / "file").touch()
    assert done == ["file", "folder.partial", "folder.partial -> folder", tmp_path.name]


def test_json_holds_no_number_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []
