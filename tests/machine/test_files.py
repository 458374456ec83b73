import errno
import os
import stat
import subprocess
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import pytest

from conftest import ROOT, killed_before, message, needs_fork
from dropgpt.errors import UserError
from dropgpt.machine.files import NO_SUCH_CALL, SUMS, check_seal, replacing, seal, write_json


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


def write_file(path: Path) -> None:
    with replacing(path) as partial:
        partial.write_text("new")


def write_folder(path: Path) -> None:
    with replacing(path) as partial:
        partial.mkdir()


@pytest.mark.parametrize("write", [write_file, write_folder])
def test_what_a_user_has_put_beside_it_stays(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "gpt"
    mine = [path.with_name(f"gpt.{word}") for word in ("old", "partial", "new", "bak", "tmp")]
    for folder in mine:
        folder.mkdir()
    for _ in range(2):
        write(path)
    assert sorted(tmp_path.iterdir()) == sorted([path, *mine])


def test_what_a_kill_has_left_goes_when_it_is_written_again(tmp_path: Path) -> None:
    """And until then neither git nor DVC sees it."""
    path = tmp_path / "gpt"
    for word in ("partial", "old"):
        left = tmp_path / f".gpt.dropgpt-{word}"
        left.mkdir()
        (left / "file").touch()
        for patterns in (".gitignore", ".dvcignore"):
            lines = (ROOT / patterns).read_text().splitlines()
            assert any(fnmatch(left.name, line) for line in lines)
    write_folder(path)
    assert [*tmp_path.iterdir()] == [path]


def test_a_folder_that_cannot_be_put_in_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails when the old one has been moved away."""
    path = tmp_path / "gpt"
    write_folder(path)
    before = sorted(path.iterdir())
    replace = Path.replace

    def fail(one: Path, other: Path) -> Path:
        if one.name.endswith("partial"):
            raise OSError(errno.EIO, "Input/output error")
        return replace(one, other)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="Input/output"):
        write_folder(path)
    assert [*tmp_path.iterdir()] == [path]
    assert sorted(path.iterdir()) == before


def test_neither_a_file_nor_a_folder_takes_the_place_of_the_other(tmp_path: Path) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("mine")
    folder.mkdir()
    (folder / "mine").touch()
    with pytest.raises(UserError, match="folder is a folder, and a file is to be written: move"):
        write_file(folder)
    with pytest.raises(UserError, match="file is a file, and a folder is to be written: move"):
        write_folder(file)
    assert sorted(tmp_path.rglob("*")) == [file, folder, folder / "mine"]


def test_of_a_link_to_a_folder_the_link_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/mine").touch()
    (tmp_path / "gpt").symlink_to("elsewhere")
    write_folder(tmp_path / "gpt")
    names = ["elsewhere", "elsewhere/mine", "gpt"]
    assert sorted(tmp_path.rglob("*")) == [tmp_path / name for name in names]


@needs_fork
@pytest.mark.parametrize("each", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_before_any_line_leaves_a_folder_whole_or_none(tmp_path: Path, each: int) -> None:
    """Before each line, or before each seventh."""

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
        line += each
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
    partial = ".folder.dropgpt-partial"
    assert done == ["file", partial, f"{partial} -> folder", tmp_path.name]


@pytest.mark.parametrize("code", NO_SUCH_CALL)
def test_a_disk_that_flushes_no_names_will_do_but_a_file_must_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """As of folders that a virtual machine shares."""
    refused = stat.S_ISDIR

    def flush(descriptor: int) -> None:
        if refused(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", flush)
    with replacing(tmp_path / "folder") as partial:
        partial.mkdir()
        (partial / "file").touch()
    refused = stat.S_ISREG
    with pytest.raises(OSError, match=os.strerror(code)), replacing(tmp_path / "file") as partial:
        partial.touch()


def test_a_folder_of_a_containers_image_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk renames none that came with the image."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old").touch()
    of_image = folder.stat().st_ino

    def in_a_container(rename: Callable[..., None]) -> Callable[..., None]:
        def renamed(source: Path, target: Path) -> None:
            if Path(source).stat().st_ino == of_image:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            rename(source, target)

        return renamed

    for name in "rename", "replace":
        monkeypatch.setattr(os, name, in_a_container(getattr(os, name)))
    with replacing(folder) as partial:
        partial.mkdir()
        (partial / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "new"]


def test_json_holds_no_number_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a", "b", ".DS_Store"):
        (folder / name).write_text(name)
    seal(folder)
    return folder


def test_a_seal_is_of_what_was_there_and_lets_the_rest_be(sealed: Path) -> None:
    check_seal(sealed, "train", ["a", "b"])
    (sealed / ".DS_Store").unlink()
    (sealed / "README.md").write_text("mine")
    (sealed / "folder").mkdir()
    check_seal(sealed, "train", ["a", "b"])


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("a", b"other", "a"),
        ("a", b"", "a"),
        ("b", None, "b"),
        (SUMS, b"", SUMS),
        (SUMS, b"\n", SUMS),
        (SUMS, b"\xff\x00" * 50, "\ufffd"),
    ],
)
def test_a_seal_names_what_was_changed(
    sealed: Path, name: str, content: bytes | None, named: str
) -> None:
    (sealed / name).unlink()
    if content is not None:
        (sealed / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        check_seal(sealed, "train", ["a", "b"])
    assert f"{sealed} is damaged: {named}" in message(error)
    assert message(error).endswith("; remove the folder, and `dvc checkout train` brings it back")


def test_a_seal_that_was_cut_anywhere_is_noticed(sealed: Path) -> None:
    whole = (sealed / SUMS).read_bytes()
    for length in range(len(whole)):
        (sealed / SUMS).write_bytes(whole[:length])
        with pytest.raises(UserError, match="folder is damaged: "):
            check_seal(sealed, "train", ["a", "b"])


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_what_may_not_be_read_or_a_disk_that_fails_is_no_damage(
    sealed: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def failing(_: Path) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "read_bytes", failing)
    with pytest.raises(OSError, match=os.strerror(number)):
        check_seal(sealed, "train", ["a", "b"])


def test_the_files_of_a_seal_can_be_checked_by_sha256sum(sealed: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=sealed, check=True)
