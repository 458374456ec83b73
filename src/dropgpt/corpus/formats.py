"""The texts in a file, by its format and compression."""

import csv
import gzip
import json
import lzma
import re
import sys
import tempfile
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from io import BufferedReader, RawIOBase
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pyarrow as pa

from dropgpt.corpus.document import BLOCK, string_columns
from dropgpt.errors import UserError


class _Streams(RawIOBase):
    """What all streams of an .xz file hold.

    Python's own reader takes what follows the first and is damaged for no part of it.
    """

    def __init__(self, path: Path) -> None:
        self.file = path.open("rb")
        self.stream = lzma.LZMADecompressor()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = b""
        while not found:
            given = b""
            if self.stream.eof:
                if not (given := self._next_begin()):
                    return 0
                self.stream = lzma.LZMADecompressor()
            elif self.stream.needs_input and not (given := self.file.read(BLOCK)):
                raise EOFError("it ends in the middle")
            found = self.stream.decompress(given, len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def _next_begin(self) -> bytes:
        """The first bytes behind the stream that has ended, and behind zeros; none at the end."""
        given = self.stream.unused_data.lstrip(b"\0")
        while not given and (block := self.file.read(BLOCK)):
            given = block.lstrip(b"\0")
        return given

    def close(self) -> None:
        self.file.close()
        super().close()


COMPRESSIONS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": lambda path: pa.input_stream(path, compression="bz2"),
    ".xz": lambda path: BufferedReader(_Streams(path)),
    ".zst": lambda path: pa.input_stream(path, compression="zstd"),
}
SETTING = "data.text_column"
# How files begin that are no text, and what to do.
OF_OTHER_KINDS = {
    b"\x1f\x8b": "packed by gzip: add .gz to its name",
    b"\xfd7zXZ\0": "packed by xz: add .xz to its name",
    b"\x28\xb5\x2f\xfd": "packed by zstd: add .zst to its name",
    b"BZh91AY&": "packed by bzip2: add .bz2 to its name",
    b"PK\x03\x04": "a zip archive, as .docx and .epub are, too: unpack it, or save it as text",
    b"PAR1": "parquet: end its name in .parquet",
    b"%PDF-": "PDF: save it as text",
    b"{\\rtf": "RTF: save it as text",
}


def ending(path: Path) -> str:
    """What tells the format: ".jsonl" of a.jsonl and of A.JSONL.GZ."""
    packed = path.suffix.lower() in COMPRESSIONS
    return (Path(path.stem) if packed else path).suffix.lower()


def check_text(path: Path) -> None:
    """Raise UserError where the file begins as one of another kind does, whatever it is called."""
    with _opened(path) as file:
        begin: bytes = file.read(8)
    for word, what in OF_OTHER_KINDS.items():
        if begin.startswith(word):
            raise UserError(f"{path}: not text, but {what}")


def parquet(path: Path, column: str) -> Iterator[tuple[int, Any]]:
    """(number, value) of each row of a parquet file."""
    with _seekable(path) as file:
        batches = string_columns(path, [column], file, hint=f" ({SETTING})")
        for n, value in enumerate((value for (batch,) in batches for value in batch), 1):
            try:
                yield n, value.as_py()
            except UnicodeDecodeError as error:
                raise UserError(f"{path}, row {n}: not UTF-8 at its byte {error.start}") from None


def comma_separated(path: Path, column: str) -> Iterator[tuple[int, str]]:
    """(number, value of `column`) of each row below the header of a CSV file."""
    csv.field_size_limit(sys.maxsize)
    lines = (line + "\n" * ended for line, ended in _split(path, re.compile(b"\n")))
    reader = csv.reader(lines, strict=True)
    try:
        header = next(filter(None, reader), [])
        if header.count(column) != 1:
            what = "two columns" if column in header else "no column"
            has = f"it has {', '.join(map(repr, header))}" if header else "it is empty"
            parted = next((mark for mark in (";", "\t", "|") if mark in "".join(header)), None)
            if len(header) == 1 and parted:
                has += f": save it with commas instead of {parted!r}"
            raise UserError(f"{path}: {what} {column!r} ({SETTING}); {has}")
        for n, row in enumerate((row for row in reader if row), 1):
            if len(row) != len(header):
                raise UserError(
                    f"{path}, row {n}, line {reader.line_num}: {len(row)} fields under a header "
                    f"of {len(header)}; a comma in a text needs quotation marks around the text"
                )
            yield n, re.sub(r"\r+\n", "\n", row[header.index(column)])
    except csv.Error as error:
        if "new-line character" in str(error):
            raise UserError(
                f"{path}, line {reader.line_num}: a \\r stands alone, as line ends of old Macs do: "
                "save it with \\n or \\r\\n, or take it out"
            ) from None
        raise UserError(f"{path}, line {reader.line_num}: not CSV: {error}") from None


def json_lines(path: Path, key: str) -> Iterator[tuple[int, Any]]:
    """(number, value of `key`) of each line of a JSON Lines file, blank ones left out."""
    for n, (line, _) in enumerate(_split(path, re.compile(b"\n")), 1):
        if line.strip():
            where = f"{path}, line {n}"
            yield n, _member(_json(line, where), key, where)


def json_items(path: Path, key: str) -> Iterator[tuple[int, Any]]:
    """(number, text) of each item of a JSON file: objects with `key`, or texts; or one object.

    The whole file is in memory.
    """
    ((content, _),) = _split(path, None)
    try:
        value = _json(content, str(path))
    except UserError as error:
        if "Extra data" not in str(error):
            raise
        raise UserError(f"{error}; a file with an object a line must end in .jsonl") from None
    if not isinstance(value, list | dict):
        raise UserError(f"{path}: neither an array of objects or of strings, nor an object")
    for n, item in enumerate(value if isinstance(value, list) else [value], 1):
        is_text = item is None or isinstance(item, str)
        yield n, item if is_text else _member(item, key, f"{path}, item {n}")


def plain(path: Path, separator: str | None) -> Iterator[tuple[str, bool]]:
    r"""Each text between the separators, and whether one ends it. `\r\n` counts as `\n`.

    Less the white space around it, and the byte order mark of a file that was put behind another.
    """
    cut = None
    if separator:
        literal = re.escape(separator.replace("\r\n", "\n").encode())
        cut = re.compile(literal.replace(b"\\\n", rb"\r?\n"))
    for text, ended in _split(path, cut):
        yield text.replace("\r\n", "\n").strip().removeprefix("\ufeff").strip(), ended


def _json(text: str, where: str) -> Any:
    try:
        # Of a number only the type is told, and Python makes none of more than 4,300 digits.
        return json.loads(text, parse_int=lambda digits: int(digits[:99]))
    except (ValueError, RecursionError) as error:
        why = str(error).replace("line 1 ", "")
        raise UserError(f"{where}: not JSON: {why}") from None


def _member(value: Any, key: str, where: str) -> Any:
    if not isinstance(value, dict) or key not in value:
        has = ", ".join(value) if isinstance(value, dict) else "none: it is no object"
        raise UserError(f"{where}: no key {key!r} ({SETTING}); it has {has}")
    return value[key]


def _split(path: Path, cut: re.Pattern[bytes] | None) -> Iterator[tuple[str, bool]]:
    """Each text between the matches of `cut`, and whether one ends it.

    White space after the last is no text. `cut` must know its end without what follows.
    """
    with _opened(path) as file:
        block = _text(path, file, len(BOM_UTF8))
        start = first = len(BOM_UTF8) if block == BOM_UTF8 else 0
        rest = block[start:]
        try:
            while cut and block:
                begin = 0
                for match in cut.finditer(rest):
                    yield rest[begin : match.start()].decode(), True
                    start += match.end() - begin
                    begin = match.end()
                rest = rest[begin:]
                # Never less than what is left over: a long text is not searched block by block.
                block = _text(path, file, max(BLOCK, len(rest)))
                rest += block
            rest += _text(path, file)
            if start == first or rest.strip():
                yield rest.decode(), False
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not UTF-8 text at byte {start + error.start}") from None


def _text(path: Path, file: Any, number: int = -1) -> bytes:
    """So many bytes more. Raises UserError for one that no text has, but UTF-16 taken for UTF-8."""
    block: bytes = file.read() if number < 0 else file.read(number)
    if b"\0" in block:
        raise UserError(
            f"{path}: not UTF-8 text, since it has the byte 0: is it UTF-16? save it as UTF-8, or "
            "take the byte out"
        )
    return block


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The bytes of a file, decompressed as its last ending says."""
    packed = path.suffix.lower() in COMPRESSIONS
    if packed and not path.stat().st_size:  # some readers find no text in it, and nothing wrong
        raise UserError(f"{path}: cannot be decompressed; is it whole? it has no byte")
    try:
        with COMPRESSIONS.get(path.suffix.lower(), lambda path: path.open("rb"))(path) as file:
            yield file
    except (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
        if isinstance(error, MemoryError):
            raise
        if isinstance(error, OSError) and error.errno:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None
        why = " ".join(str(error).split())
        if "too much memory" in why:  # as Arrow says it of zstd
            raise UserError(
                f"{path}: compressed with a longer window than can be read here; compress it anew, "
                "with `zstd --long=27` at most"
            ) from None
        raise UserError(f"{path}: cannot be decompressed; is it whole? {why}") from None


def _blocks(path: Path) -> Iterator[bytes]:
    with _opened(path) as file:
        while block := file.read(BLOCK):
            yield block


def _seekable(path: Path) -> AbstractContextManager[Any]:
    """The same as a file in which one can go back; None where the file at `path` is one."""
    if path.suffix.lower() not in COMPRESSIONS:
        return nullcontext()
    try:
        with ExitStack() as failing:
            copy = failing.enter_context(TemporaryFile())
            copy.writelines(_blocks(path))
            copy.flush()
            failing.pop_all()
            return copy
    except OSError as error:  # of the copy: `_opened` tells of the file's own
        folder = tempfile.tempdir or "a temporary folder"
        raise UserError(
            f"{path}: cannot be unpacked in {folder}: {error.strerror}; set TMPDIR to a folder on "
            "a disk with room"
        ) from None


# A document a row, line or item, by the file's ending, with the key or column of its text.
READERS: dict[str, tuple[str, Callable[[Path, str], Iterator[tuple[int, Any]]]]] = {
    ".jsonl": ("line", json_lines),
    ".ndjson": ("line", json_lines),
    ".json": ("item", json_items),
    ".csv": ("row", comma_separated),
    ".parquet": ("row", parquet),
}
PLAIN = (".txt", ".md")
ENDINGS = (*PLAIN, *READERS)
