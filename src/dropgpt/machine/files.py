"""Outputs that appear whole or not at all, and show later whether they still are."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dropgpt.errors import UserError, of_machine
from dropgpt.machine.repository import check_made

# What some disks answer where a folder's names are to be written, as folders shared with a virtual
# machine do.
NO_SUCH_CALL = (errno.EINVAL, errno.EBADF, errno.ENOTSUP)
SUMS = "SHA256SUMS"  # in the format of `sha256sum --check`


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write a file or a folder at; on success it takes the place of `path`.

    When the block raises, what it wrote is removed and what stood at `path` stays. A file at
    `path` is at every moment the old or the new one, also where the power fails; a folder is for
    a moment neither. Raises UserError where one of them would take the place of the other.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Names that no user chooses. What a kill leaves there goes when `path` is written again.
    partial, old = (path.with_name(f".{path.name}.dropgpt-{word}") for word in ("partial", "old"))
    _tidy(path, partial, old)
    try:
        yield partial
        # The bytes must be on the disk before their name is, or a name may outlive its bytes.
        for written in [*partial.rglob("*"), partial]:
            _flush(written)
        if path.exists() and path.is_dir() != partial.is_dir():
            there, wanted = ("folder", "file") if path.is_dir() else ("file", "folder")
            raise UserError(f"{path} is a {there}, and a {wanted} is to be written: move it away")
        if path.is_dir():
            # A folder cannot be renamed onto one that is not empty, and one that came with a
            # container's image not at all: then this copies it.
            shutil.move(path, old)
        partial.replace(path)
        _flush(path.parent)
    finally:
        _tidy(path, partial, old)


def _tidy(path: Path, partial: Path, old: Path) -> None:
    """Leave `path` alone, which is what stood there if nothing has taken its place."""
    if old.exists() and not path.exists():
        old.replace(path)
    _remove(partial)
    _remove(old)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON that a person can read and git can compare."""
    with replacing(path) as partial:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        partial.write_text(text + "\n", encoding="utf-8")


def seal(folder: Path) -> None:
    """Write the checksums of the files in `folder` to SHA256SUMS beside them."""
    # Less what file managers leave (.DS_Store).
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    (folder / SUMS).write_bytes(b"".join(_lines(files)))


def check_seal(folder: Path, stage: str, names: Iterable[str], remedy: str = "") -> None:
    """Raise UserError, naming the file, unless what `seal` found in `folder` is as it was.

    What was put there since is not looked at. `stage` is the one of dvc.yaml that makes the
    folder, `names` are the files that it writes: by them a cut SHA256SUMS is noticed. `remedy`
    says what to do where DVC cannot bring the folder back.
    """
    if not folder.is_dir():
        check_made(folder, str(folder))
        raise UserError(
            f"{folder}: no such folder; `dvc repro {stage}` in the project's root makes it"
        )
    try:
        if name := _damaged(folder, names):
            raise ValueError(f"{name} is not what {stage} wrote there")
    except (OSError, ValueError) as error:
        if of_machine(error):
            raise
        remedy = remedy or f"remove the folder, and `dvc checkout {stage}` brings it back"
        raise UserError(f"{folder} is damaged: {error}; {remedy}") from None


def _damaged(folder: Path, names: Iterable[str]) -> str | None:
    """The first file that is not as its line in SUMS says, or SUMS where it lacks a name."""
    lines = (folder / SUMS).read_bytes().splitlines(keepends=True)
    sealed = [line[66:].decode(errors="replace").strip() for line in lines]
    for name, line, found in zip(sealed, lines, _lines(map(folder.joinpath, sealed)), strict=True):
        if found != line:
            return name or SUMS
    return SUMS if {*names} - {*sealed} else None


def sha256(path: Path) -> str:
    """The checksum of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _lines(paths: Iterable[Path]) -> list[bytes]:
    """Of SUMS, with the names that the files have there; empty where there is no file."""

    def line(path: Path) -> bytes:
        return f"{sha256(path)}  {path.name}\n".encode() if path.is_file() else b""

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # a large folder waits for its checksums
        return list(pool.map(line, paths))


def _flush(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows has no such call for a folder
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not path.is_dir() or error.errno not in NO_SUCH_CALL:
            raise
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
