"""Documents from the user's own files."""

import json
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator
from glob import glob
from pathlib import Path
from typing import Any

from dropgpt.corpus.document import BLOCK, Document, string_columns
from dropgpt.errors import UserError


def documents(
    pattern: str, text_column: str, separator: str | None, key: str = "data.files"
) -> Iterator[Document]:
    """The documents of the files that the glob `pattern` matches (`**`: folders at any depth).

    Files come in the order of their names. Their suffix tells the format:
    .parquet  a document a row, in the string column `text_column`
    .jsonl    a document a line, a JSON object with the key `text_column`
    .txt      documents parted by `separator`, without the white space around them; null: the
              whole file is one
    `key` of params.yaml is where the pattern stands.
    Raises UserError, naming the file and the row, line, document or byte, for whatever is not a
    text in UTF-8, and for an empty one.
    """
    paths = [path for path in map(Path, sorted(glob(pattern, recursive=True))) if path.is_file()]
    if not paths:
        raise UserError(f"{key} is {pattern!r}, which matches no file")
    readers: dict[str, tuple[str, Callable[[Path], Iterable[tuple[int, Any]]]]] = {
        ".parquet": ("row", lambda path: _rows(path, text_column)),
        ".jsonl": ("line", lambda path: _lines(path, text_column)),
        ".txt": ("document", lambda path: enumerate(map(str.strip, _split(path, separator)), 1)),
    }
    for path in paths:
        if path.suffix not in readers:
            raise UserError(
                f"{key} is {pattern!r}, which matches {path}: narrow it to files that end in "
                ".parquet, .jsonl or .txt"
            )
    n = 0
    for path in paths:
        unit, reader = readers[path.suffix]
        for n, text in reader(path):
            where = f"{path}, {unit} {n}"
            if not isinstance(text, str):
                what = "null" if text is None else type(text).__name__
                raise UserError(f"{where}: {text_column!r} is {what}, not a string")
            if not text or text.isspace():
                raise UserError(f"{where}: the text is empty; take it out")
            id = f"{path.as_posix()}:{n}"
            yield Document(text, id, id)
    if not n:
        raise UserError(f"{key} is {pattern!r}: no document in what it matches")


def _rows(path: Path, column: str) -> Iterator[tuple[int, Any]]:
    """(number, value) of each row of a parquet file."""
    values = (value for (batch,) in string_columns(path, [column]) for value in batch)
    for n, value in enumerate(values, 1):
        try:
            yield n, value.as_py()
        except UnicodeDecodeError as error:
            raise UserError(f"{path}, row {n}: not UTF-8 at its byte {error.start}") from None


def _lines(path: Path, key: str) -> Iterator[tuple[int, Any]]:
    """(number, value of `key`) of each line of a JSON Lines file, blank ones left out."""
    for n, line in enumerate(_split(path, "\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            why = str(error).replace("line 1 ", "")
            raise UserError(f"{path}, line {n}: not JSON: {why}") from None
        if not isinstance(value, dict) or key not in value:
            has = ", ".join(value) if isinstance(value, dict) else "none: it is no object"
            raise UserError(f"{path}, line {n}: no key {key!r} (data.text_column); it has {has}")
        yield n, value[key]


def _split(path: Path, separator: str | None) -> Iterator[str]:
    """The texts between the separators of a file; white space after the last is none."""
    cut = (separator or "").encode()
    try:
        with path.open("rb") as file:
            start = first = len(BOM_UTF8) if file.read(len(BOM_UTF8)) == BOM_UTF8 else 0
            file.seek(start)
            rest = b""
            # Never less than what is left over, so that a long text is not searched block by block.
            while cut and (block := file.read(max(BLOCK, len(rest)))):
                *parts, rest = (rest + block).split(cut)
                for part in parts:
                    yield part.decode()
                    start += len(part) + len(cut)
            part = rest + file.read()
            if start == first or part.strip():
                yield part.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text at byte {start + error.start}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
