"""Documents from the user's own files."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dropgpt.corpus import formats, globs
from dropgpt.corpus.document import Document, size
from dropgpt.errors import UserError, check_here, counted, warn

_PACKED = " or ".join(formats.COMPRESSIONS)
# What a separator may have, as a shell leaves it, and what it means.
ESCAPED = re.compile(r"\\\\(?=[nt])|\\[nt]|\\r(?=\\n)|\\f(?![a-z])")
MEANT = {r"\n": "\n", r"\r": "\r", r"\t": "\t", r"\f": "\f", "\\\\": "\\"}


def documents(
    pattern: str, text_column: str, separator: str | None, key: str = "data.files"
) -> Iterator[Document]:
    r"""The documents of the file of this name, or of those that the glob `pattern` matches.

    Files come in the order of their names, each once, however many links lead to it there (`**`:
    folders at any depth, but no linked ones). The ending tells the format, in any case; .gz, .bz2,
    .xz or .zst may follow it:
    .parquet, .csv    a document a row, in the string column `text_column`
    .jsonl, .ndjson   a document a line, a JSON object with the key `text_column`
    .json             a document an item of an array of such objects, or of strings; or one object
    .txt, .md         documents parted by `separator`, without the white space around them and
                      where there is any text; null: the whole file is one. A backslash and n or t
                      mean line end and tab, as a shell leaves them, \r\n a line end, too, and \f,
                      where no word begins, a page break; two of them before n or t are one, as in
                      \\newpage.
    `key` of params.yaml is where the pattern stands.
    Raises UserError for a file in which DVC would not notice a change, and, naming the file and the
    row, line, item, document or byte, for whatever is not a text in UTF-8. Empty texts, and null,
    are left out; a line says how many.
    """
    yield from read(globs.files(pattern, key), text_column, separator, f"{key} is {pattern!r}")


def read(
    paths: list[Path],
    text_column: str,
    separator: str | None,
    said: str,
    set_by: str = "data.separator",
) -> Iterator[Document]:
    """The documents of these files, wherever they lie; else as `documents`.

    For what is told, `said` is how the files were named, and `set_by` what sets the separator.
    """
    for path in paths:
        try:
            str(path).encode()  # or no document can be called by it
        except UnicodeEncodeError:
            raise UserError(f"{str(path)!r}: the file's name is not UTF-8; rename it") from None
        if formats.ending(path) not in formats.ENDINGS:
            raise UserError(
                f"{said}, which matches {path}: narrow it to files that end in "
                f"{', '.join(formats.ENDINGS)}, as they are or with {_PACKED} added"
            )
        check_here(path)
        if formats.ending(path) != ".parquet":
            formats.check_text(path)
    given_as = separator
    if separator:
        separator = ESCAPED.sub(lambda found: MEANT[found[0]], separator)
    plain = [path for path in paths if formats.ending(path) in formats.PLAIN]
    parted: set[Path] = set()
    given = empty = 0
    for path in paths:
        for unit, n, text in _texts(path, text_column, separator, parted):
            if text is None or not str(text).strip():
                empty += 1
                continue
            if not isinstance(text, str):
                raise UserError(
                    f"{path}, {unit} {n}: {text_column!r} is {type(text).__name__}, not a string"
                )
            id = f"{path.as_posix()}:{n}"
            one = Document(text, id, id)
            size(one)  # half a surrogate pair has none
            yield one
            given += 1
    if not given:
        others = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        raise UserError(f"{said}: no document in {paths[0]}{others}")
    if empty:
        warn(f"{said}: left out as empty: {counted(empty, 'text')}")
    if separator and plain and not parted:
        shown = f"'{given_as}'"
        for escaped in (r"\n", r"\r", r"\t", r"\f"):
            shown = shown.replace(MEANT[escaped], escaped)
        if ESCAPED.search(shown):
            shown += r" (\n: a line end; \t: a tab; \\n: a backslash and an n)"
        warn(
            f"{set_by} is {shown}, which occurs nowhere in "
            f"{counted(len(plain), 'text file')} such as {plain[0]}: each is one document"
        )


def _texts(
    path: Path, text_column: str, separator: str | None, parted: set[Path]
) -> Iterator[tuple[str, int, Any]]:
    """(unit, number, text) of a file; it is added to `parted` if the separator occurs in it.

    Where nothing stands between two separators, there is no document.
    """
    if formats.ending(path) in formats.PLAIN:
        n = 0
        for text, ended in formats.plain(path, separator):
            if ended:
                parted.add(path)
            if text:
                n += 1
                yield "document", n, text
        if not n:
            yield "document", 1, ""
    else:
        unit, reader = formats.READERS[formats.ending(path)]
        for n, value in reader(path, text_column):
            yield unit, n, value
