import bz2
import gzip
import json
import lzma
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import data_params as data
from conftest import message
from dropgpt import corpus
from dropgpt.corpus import document, formats, own_files
from dropgpt.corpus.document import Document
from dropgpt.errors import UserError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of texts of a project in which the test works."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    (tmp_path / "corpora").mkdir()
    return tmp_path / "corpora"


def table(path: Path, **columns: Any) -> None:
    pq.write_table(pa.table(columns), path)


def test_files_come_sorted_from_every_folder(here: Path) -> None:
    (here / "b/c").mkdir(parents=True)
    for name in "b/c/2.txt", "b/1.txt", "a.txt":
        (here / name).write_text(f"text of {name}")
    (here / ".hidden").mkdir()
    (here / ".hidden/a.txt").write_text("an editor's copy")
    expected = [
        Document(f"text of {name}", f"corpora/{name}:1", f"corpora/{name}:1")
        for name in ("a.txt", "b/1.txt", "b/c/2.txt")
    ]
    for files in ("corpora/**/*.txt", "corpora/**", "./corpora/**/*.txt", f"{here}/**/*.txt"):
        assert list(corpus.documents(data(files=files, separator=None))) == expected


def test_formats_mix(here: Path) -> None:
    table(here / "a.parquet", text=["one", " two\n"], other=[1, 2])
    (here / "b.jsonl").write_text('{"text": "three"}\n\n{"x": 1, "text": "v\\u00fcnf"}\n')
    (here / "c.txt").write_bytes("\ufeffsechs\n<|endoftext|>\nsieben\n<|endoftext|>\n".encode())
    assert [(found.text, found.id) for found in corpus.documents(data(files="corpora/*.*"))] == [
        ("one", "corpora/a.parquet:1"),
        (" two\n", "corpora/a.parquet:2"),
        ("three", "corpora/b.jsonl:1"),
        ("vünf", "corpora/b.jsonl:3"),
        ("sechs", "corpora/c.txt:1"),
        ("sieben", "corpora/c.txt:2"),
    ]


@pytest.mark.parametrize("block", [1, 2, 7, 1000])
def test_a_text_file_is_cut_wherever_its_blocks_end(
    here: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(formats, "BLOCK", block)
    texts = ["ä", "a document that is longer than the others", "<|endof|>", "€uro"]
    (here / "a.txt").write_text("<|endoftext|>".join(texts), encoding="utf-8")
    assert [
        found.text for found in own_files.documents("corpora/*.txt", "text", "<|endoftext|>")
    ] == texts


def test_empty_texts_are_left_out_and_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(here / "a.parquet", text=["one", None, " ", ""])
    (here / "b.jsonl").write_text('{"text": null}\n{"text": "two"}\n')
    (here / "c.csv").write_text("id,text\n1,\n2,three\n")
    (here / "d.txt").write_text("\n")
    found = own_files.documents("corpora/*", "text", None)
    assert [(one.text, one.id) for one in found] == [
        ("one", "corpora/a.parquet:1"),
        ("two", "corpora/b.jsonl:2"),
        ("three", "corpora/c.csv:2"),
    ]
    told = capsys.readouterr().err
    assert "warning: data.files is 'corpora/*': left out as empty: 6 texts\n" in told


def test_a_byte_order_mark_within_a_file_is_no_text(here: Path) -> None:
    (here / "a.txt").write_text("\ufeffone\n|\ufefftwo|\n\ufeff\n| three")
    found = own_files.documents("corpora/a.txt", "text", "|")
    assert [one.text for one in found] == ["one", "two", "three"]


def test_without_a_separator_a_file_is_a_document(here: Path) -> None:
    (here / "a.txt").write_text("one <|endoftext|>\n\n two\n")
    (found,) = corpus.documents(data(separator=None))
    assert found.text == "one <|endoftext|>\n\n two"


def test_another_column_and_key(here: Path) -> None:
    table(here / "a.parquet", body=pa.array(["one"], pa.large_string()))
    (here / "b.jsonl").write_text('{"body": "two"}')
    assert [found.text for found in own_files.documents("corpora/*", "body", None)] == [
        "one",
        "two",
    ]


BROKEN = {
    "empty.txt": (b"", "'corpora/empty.txt': no document in corpora/empty.txt"),
    "blank.txt": (b" \n", "data.files is 'corpora/blank.txt': no document"),
    "mark.txt": (b"\xef\xbb\xbf|\n\xef\xbb\xbf|", "'corpora/mark.txt': no document"),
    "wide.txt": ("one".encode("utf-16-le"), "wide.txt: not UTF-8 text, since it has the byte 0"),
    "wide.csv": ("text\na".encode("utf-16-be"), "wide.csv: not UTF-8 text, since it has"),
    "latin.txt": (b"one|tw\xf6", "latin.txt: not UTF-8 text at byte 6"),
    "latin-bom.txt": (b"\xef\xbb\xbfone|tw\xf6", "latin-bom.txt: not UTF-8 text at byte 9"),
    "latin.jsonl": (b'{"text": "a"}\n{"text": "\xf6"}\n', "latin.jsonl: not UTF-8 text at byte 24"),
    "bad.jsonl": (b'{"text": "a"}\n{"text": \n', "bad.jsonl, line 2: not JSON: "),
    "list.jsonl": (b'["a"]\n', "list.jsonl, line 1: no key 'text' (data.text_column)"),
    "key.jsonl": (b'{"a": 1, "b": 2}\n', "line 1: no key 'text' (data.text_column); it has a, b"),
    "number.jsonl": (b'{"text": 1}\n', "number.jsonl, line 1: 'text' is int, not a string"),
    "blank.jsonl": (b'{"text": " \\n"}\n', "data.files is 'corpora/blank.jsonl': no document"),
    "none.jsonl": (b"\n", "data.files is 'corpora/none.jsonl': no document"),
    "text.parquet": (b"This is no parquet.", "text.parquet: cannot be read as parquet"),
    "empty.parquet": (b"", "empty.parquet: cannot be read as parquet"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_with_the_place(here: Path, name: str) -> None:
    content, expected = BROKEN[name]
    (here / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        list(own_files.documents(f"corpora/{name}", "text", "|"))
    assert expected in message(error)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            {"body": ["a"], "id": [1]},
            "corpora/a.parquet: no column 'text' (data.text_column); it has body, id",
        ),
        ({"text": [1]}, "corpora/a.parquet: column 'text' is int64, not string"),
        ({"text": [["a"]]}, "corpora/a.parquet: column 'text' is list<"),
        ({"text": pa.array([], pa.string())}, "data.files is 'corpora/*.parquet': no document"),
        (
            {"text": pa.array([b"a", b"\xf6"]).view(pa.string())},
            "a.parquet, row 2: not UTF-8 at its byte 0",
        ),
    ],
)
def test_a_bad_column_is_named(here: Path, columns: dict[str, Any], expected: str) -> None:
    table(here / "a.parquet", **columns)
    with pytest.raises(UserError) as error:
        list(own_files.documents("corpora/*.parquet", "text", None))
    assert expected in message(error)


def test_a_parquet_file_cut_short_is_refused(here: Path) -> None:
    table(here / "a.parquet", text=["a" * 1000])
    content = (here / "a.parquet").read_bytes()
    (here / "a.parquet").write_bytes(content[:-10])
    with pytest.raises(UserError, match=r"a\.parquet: cannot be read as parquet; is it whole\?"):
        list(own_files.documents("corpora/*.parquet", "text", None))


def test_files_of_another_kind_or_none_are_refused(here: Path) -> None:
    with pytest.raises(UserError, match=r"data\.files is 'no/\*\.txt', which matches no file"):
        list(own_files.documents("no/*.txt", "text", None))
    (here / "a.txt").write_text("a")
    (here / "b.pdf").write_text("b")
    expected = r"data\.files is 'corpora/\*', which matches corpora/b\.pdf: narrow .*\.txt, \.md"
    with pytest.raises(UserError, match=expected):
        next(own_files.documents("corpora/*", "text", None))


# Without the time of day: pytest names a test by these bytes, and its processes must agree.
PACKED = gzip.compress(b"text", mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.txt", PACKED, "a.txt: not text, but packed by gzip: add .gz to its"),
        ("a.jsonl", lzma.compress(b"text"), "packed by xz: add .xz"),
        ("a.txt", bz2.compress(b"text"), "packed by bzip2: add .bz2"),
        ("a.md.gz", gzip.compress(PACKED, mtime=0), "packed by gzip: add .gz"),
        ("a.md", b"PK\x03\x04word/document.xml", "a zip archive, as .docx and .epub are"),
        ("a.csv", b"PAR1text", "parquet: end its name in .parquet"),
        ("a.txt", b"%PDF-1.7 text", "PDF: save it as text"),
        ("a.txt", b"{\\rtf1 text}", "RTF: save it as text"),
    ],
)
def test_a_file_that_is_no_text_whatever_it_is_called_is_refused(
    here: Path, name: str, content: bytes, why: str
) -> None:
    (here / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        next(own_files.documents(f"corpora/{name}", "text", None))
    assert why in message(error)


def test_a_file_may_be_zstandard_only_if_it_is_called_so(here: Path) -> None:
    (here / "a.txt").write_bytes(zstd(b"text"))
    with pytest.raises(UserError, match=r"packed by zstd: add \.zst to its name"):
        next(own_files.documents("corpora/a.txt", "text", None))


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("corpora/books", "of a folder name the files: corpora/books/*.txt, or corpora/books/**/"),
        ("corpora", "of a folder name the files: corpora/*.txt, or corpora/**/*.txt"),
        ("moby.txt", "did you mean corpora/books/moby.txt?"),
        ("corpora/books/mobby.txt", "did you mean corpora/books/moby.txt?"),
        ("corpora/*.parquet", "corpora/ has corpora/books/moby.txt, say"),
        ("corpora/empty", "of a folder name the files: corpora/empty/*.txt"),
    ],
)
def test_where_nothing_matches_it_says_what_would(here: Path, pattern: str, hint: str) -> None:
    (here / "books").mkdir()
    (here / "empty").mkdir()
    (here / "books/moby.txt").write_text("text")
    with pytest.raises(UserError) as error:
        next(own_files.documents(pattern, "text", None))
    assert f"data.files is {pattern!r}, which matches no file; {hint}" in message(error)


def test_where_there_is_no_file_at_all_it_says_so(here: Path) -> None:
    with pytest.raises(UserError, match=r"matches no file; corpora/ has no file to read"):
        next(own_files.documents("corpora/*.txt", "text", None))


TABLE = [{"n": 1, "text": 'one, with\n"two" lines'}, {"n": 2, "text": "zwei ü"}]
CONTENTS: dict[str, Callable[[Path], Any]] = {
    ".txt": lambda path: path.write_text("|".join(row["text"] for row in TABLE)),
    ".jsonl": lambda path: pd.DataFrame(TABLE).to_json(path, orient="records", lines=True),
    ".json": lambda path: pd.DataFrame(TABLE).to_json(path, orient="records"),
    ".csv": lambda path: pd.DataFrame(TABLE).to_csv(path, index=False),
    ".parquet": lambda path: pd.DataFrame(TABLE).to_parquet(path),
}
CONTENTS |= {".md": CONTENTS[".txt"], ".ndjson": CONTENTS[".jsonl"]}


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


@pytest.mark.parametrize("packed", COMPRESS)
@pytest.mark.parametrize("format", CONTENTS)
def test_every_format_is_read_compressed_or_not(here: Path, format: str, packed: str) -> None:
    CONTENTS[format](here / f"plain{format}")
    content = COMPRESS[packed]((here / f"plain{format}").read_bytes())
    for name in (f"a{format}{packed}", f"A{format}{packed}".upper()):
        (here / name).write_bytes(content)
        found = list(own_files.documents(f"corpora/{name}", "text", "|"))
        assert [(text, id) for text, id, _ in found] == [
            (row["text"], f"corpora/{name}:{n}") for n, row in enumerate(TABLE, 1)
        ]


@pytest.mark.parametrize("format", [".txt", ".csv", ".parquet"])
@pytest.mark.parametrize("packed", [".gz", ".bz2", ".xz", ".zst"])
def test_a_compressed_file_that_is_not_whole_is_named(here: Path, format: str, packed: str) -> None:
    CONTENTS[format](here / f"plain{format}")
    content = COMPRESS[packed]((here / f"plain{format}").read_bytes())
    half = len(content) // 2
    for broken in (content[:-1], content[:half], content[1:], content + b"rest", b"no"):
        (here / f"a{format}{packed}").write_bytes(broken)
        with pytest.raises(UserError) as error:
            list(own_files.documents("corpora/a.*", "text", "|"))
        why = f"corpora/a{format}{packed}: cannot be decompressed; is it whole?"
        assert why in message(error)


def test_a_copy_that_cannot_be_written_is_not_told_as_the_corpus(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table(here / "plain.parquet", text=[os.urandom(1 << 19).hex()])
    (here / "a.parquet.gz").write_bytes(gzip.compress((here / "plain.parquet").read_bytes()))
    assert len(ids("corpora/a.parquet.gz")) == 1
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, limit[1]))
    try:
        with pytest.raises(UserError) as error:
            ids("corpora/a.parquet.gz")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    where = f"corpora/a.parquet.gz: cannot be unpacked in {tempfile.gettempdir()}"
    assert f"{where}: File too large; set TMPDIR" in message(error)
    monkeypatch.setattr(tempfile, "tempdir", "/no/such/folder")
    with pytest.raises(UserError, match=r"unpacked in /no/such/folder: No such file.*TMPDIR"):
        ids("corpora/a.parquet.gz")


@pytest.mark.parametrize("name", ["a.parquet", "a.parquet.zst", "a.txt.bz2"])
def test_a_lack_of_memory_is_no_damage(
    here: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise pa.ArrowMemoryError("malloc of size 64 failed")

    (here / name).write_text("text")
    monkeypatch.setattr(pq, "ParquetFile", failing)
    monkeypatch.setattr(pa, "input_stream", failing)
    with pytest.raises(MemoryError):
        ids(f"corpora/{name}")


def test_a_number_of_any_length_beside_the_text_is_json(here: Path) -> None:
    line = f'{{"n": {"1" * 5000}, "text": "one"}}'
    (here / "a.jsonl").write_text(line)
    (here / "b.json").write_text(f"[{line}]")
    assert ids("corpora/*") == ["corpora/a.jsonl:1", "corpora/b.json:1"]


@pytest.mark.parametrize("packed", [".gz", ".bz2", ".xz", ".zst"])
def test_several_streams_in_a_file_are_one_text_and_none_may_be_damaged(
    here: Path, packed: str
) -> None:
    first, second = (COMPRESS[packed](text * 99_999) for text in (b"one|", b"two|"))
    path = here / f"a.txt{packed}"
    path.write_bytes(first + second)
    texts = [text for text, _, _ in own_files.documents(f"corpora/{path.name}", "text", "|")]
    assert texts == ["one"] * 99_999 + ["two"] * 99_999
    # The program zstd adds a checksum, Arrow does not: there only the begin tells.
    for place in (0,) if packed == ".zst" else (0, len(second) // 2, len(second) - 5):
        broken = bytearray(second)
        broken[place] ^= 1
        path.write_bytes(first + broken)
        with pytest.raises(UserError, match="cannot be decompressed; is it whole"):
            list(own_files.documents(f"corpora/{path.name}", "text", "|"))


def test_a_zst_file_of_a_longer_window_than_can_be_read_is_no_damage(here: Path) -> None:
    frame = bytes.fromhex("28b52ffd 00 a8 290000") + b"hello"  # as `zstd --long=31` writes it
    (here / "a.txt.zst").write_bytes(frame)
    with pytest.raises(UserError, match=r"a\.txt\.zst: .* `zstd --long=27` at most$"):
        ids("corpora/a.txt.zst")


def test_zeros_between_the_streams_of_an_xz_file_are_padding(here: Path) -> None:
    one, two = lzma.compress(b"one|"), lzma.compress(b"two")
    (here / "a.txt.xz").write_bytes(one + bytes(1 << 22) + two + bytes(4))
    found = own_files.documents("corpora/a.txt.xz", "text", "|")
    assert [text for text, _, _ in found] == ["one", "two"]


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345678\n"


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.csv", "a.parquet", "a.jsonl.gz"])
@pytest.mark.parametrize(
    ("content", "command"),
    [(LFS, "git lfs pull"), ("/annex/objects/SHA256E-s4--5e88\n", "git annex get")],
)
def test_what_stands_in_for_a_file_is_no_text(
    here: Path, name: str, content: str, command: str
) -> None:
    (here / name).write_text(content)
    with pytest.raises(UserError, match=rf"{name} only stands in for a file.*`{command}`"):
        ids("corpora/a.*")


def test_a_file_that_only_dvc_has_is_no_reason_to_go_without_it(here: Path) -> None:
    (here / "a.txt").write_text("text")
    (here / "b.txt.dvc").write_text("outs:\n- path: b.txt\n")
    (here / "c.csv.dvc").write_text("outs:\n- path: c.csv\n")  # not asked for
    with pytest.raises(UserError, match=r"corpora/b\.txt\.dvc stands for a file.*dvc checkout"):
        ids("corpora/*.txt")
    with pytest.raises(UserError, match=r"corpora/b\.txt\.dvc stands for a file.*dvc checkout"):
        ids("corpora/b.txt")
    (here / "b.txt").write_text("text")
    assert ids("corpora/*.txt") == ["corpora/a.txt:1", "corpora/b.txt:1"]


def test_a_link_into_an_annex_that_has_not_the_file(here: Path) -> None:
    (here / "a.txt").symlink_to("../.git/annex/objects/xx/yy/SHA256E-s4--5e88.txt")
    with pytest.raises(UserError, match=r"a link to nothing; `git annex get` brings it"):
        ids("corpora/*.txt")


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ('["one", {"text": "two"}]', ["one", "two"]),
        ('{"text": "one"}', ["one"]),
        ("\ufeff[\n]", "no document"),
        ('"one"', "a.json: neither an array of objects or of strings, nor an object"),
        ("[1]", "a.json, item 1: no key 'text' (data.text_column); it has none: it is no object"),
        ('[{"text": "a"}, {"b": 1}]', "a.json, item 2: no key 'text' (data.text_column); it has b"),
        ('["one", {"text": null}, {"text": " "}, null]', ["one"]),
        ('[{"text": " "}]', "no document"),
        ('{"text": "a"}\n{"text": "b"}', "an object a line must end in .jsonl"),
        ("", "a.json: not JSON: Expecting value"),
    ],
)
def test_json_is_an_array_or_an_object(here: Path, content: str, texts: list[str] | str) -> None:
    (here / "a.json").write_text(content)
    if isinstance(texts, list):
        assert [text for text, _, _ in own_files.documents("corpora/a.json", "text", "|")] == texts
        return
    with pytest.raises(UserError) as error:
        list(own_files.documents("corpora/a.json", "text", "|"))
    assert texts in message(error)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"id;text\n1;a\n", "it has 'id;text': save it with commas instead of ';'"),
        (b"id\ttext\n1\ta\n", r"it has 'id\ttext': save it with commas instead of '\t'"),
        (b"id, text\n1, a\n", "no column 'text' (data.text_column); it has 'id', ' text'"),
        (b"id,text\r1,a\r2,b\r", r"a.csv, line 1: a \r stands alone, as line ends of old Macs do"),
        (b"id,text\n1,a\rb\n", r"a.csv, line 2: a \r stands alone, "),
        (b"text,text\na,b\n", "a.csv: two columns 'text'"),
        (b"", "a.csv: no column 'text' (data.text_column); it is empty"),
        (b"text\n", "no document"),
        (b"id,text\n1,a\n2,b, c\n", "a.csv, row 2, line 3: 3 fields under a header of 2"),
        (b"id,text\n1\n", "a.csv, row 1, line 2: 1 fields under a header of 2"),
        (b'id,text\n1,"a\n', "a.csv, line 2: not CSV: unexpected end of data"),
        (b"id,text\n1,\n", "no document"),
        (b"id,text\n1,\xf6\n", "a.csv: not UTF-8 text at byte 10"),
    ],
)
def test_a_bad_csv_is_named(here: Path, content: bytes, expected: str) -> None:
    (here / "a.csv").write_bytes(content)
    with pytest.raises(UserError) as error:
        list(own_files.documents("corpora/a.csv", "text", None))
    assert expected in message(error)


def test_line_ends_of_windows_in_a_field_count_as_line_ends(here: Path) -> None:
    for end in b"\r\n", b"\r\r\n":  # the second by a program that ends its lines twice over
        (here / "a.csv").write_bytes(end.join([b"", b"text,n", b'"one', b'two",1', b""]))
        (found,) = own_files.documents("corpora/a.csv", "text", None)
        assert found.text == "one\ntwo"


def test_a_csv_of_windows_with_long_fields_is_read(here: Path) -> None:
    long = "NA " * 100_000
    (here / "a.csv").write_bytes(f'\ufefftext,n\r\n"{long}",1\r\n\r\nNA,\r\n'.encode())
    assert [text for text, _, _ in own_files.documents("corpora/a.csv", "text", None)] == [
        long,
        "NA",
    ]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["one", "two", "one"], dtype="category"),
        pa.array(["one", "two", "one"], pa.string_view()),
        pa.array(["one", "two", "one"], pa.large_string()).dictionary_encode(),
    ],
)
def test_every_kind_of_string_column_is_read(here: Path, column: Any) -> None:
    if isinstance(column, pd.Series):
        column.to_frame("text").to_parquet(here / "a.parquet")
    else:
        table(here / "a.parquet", text=column)
    texts = [text for text, _, _ in own_files.documents("corpora/*", "text", None)]
    assert texts == ["one", "two", "one"]


def test_two_parquet_columns_of_one_name_are_refused(here: Path) -> None:
    arrays = [pa.array(["a"]), pa.array(["b"]), pa.array([1]), pa.array([2])]
    pq.write_table(pa.table(arrays, names=["text", "text", "n", "n"]), here / "a.parquet")
    with pytest.raises(UserError) as error:
        list(own_files.documents("corpora/*", "text", None))
    assert "corpora/a.parquet: two columns 'text' (data.text_column); rename one" in message(error)


def test_a_document_of_more_than_two_gigabytes_is_named(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert document.LONGEST < 2**31
    monkeypatch.setattr(document, "LONGEST", 1000)
    (here / "a.txt").write_text("short|" + "long" * 1000)
    with pytest.raises(UserError) as error:
        document.write(own_files.documents("corpora/a.txt", "text", "|"), here / "out.parquet")
    assert "document 'corpora/a.txt:2': 4,030 bytes, more than the 1,000" in message(error)


def ids(pattern: str, separator: str | None = None) -> list[str]:
    return [id for _, id, _ in own_files.documents(pattern, "text", separator)]


def test_what_exists_under_a_name_is_read_under_that_name(here: Path) -> None:
    for name in "part[12].txt", "part1.txt", "part2.txt", "*.txt":
        (here / name).write_text(f"text of {name}")
    assert ids("corpora/part[12].txt") == ["corpora/part[12].txt:1"]
    assert ids("corpora/*.txt") == ["corpora/*.txt:1"]
    (here / "part[12].txt").unlink()
    assert ids("corpora/part[12].txt") == ["corpora/part1.txt:1", "corpora/part2.txt:1"]


def test_each_file_is_read_once(here: Path) -> None:
    (here / "sub").mkdir()
    for name in "a.txt", "sub/b.txt":
        (here / name).write_text(f"text of {name}")
    (here / "sub/up").symlink_to("..")  # a loop, and then two of them
    (here / "sub/self").symlink_to(".")
    (here / "c.txt").symlink_to("a.txt")
    assert ids("corpora/**/*.txt") == ["corpora/a.txt:1", "corpora/sub/b.txt:1"]
    assert ids("corpora/**") == ["corpora/a.txt:1", "corpora/sub/b.txt:1"]
    assert ids("corpora/c.txt") == ["corpora/c.txt:1"]


@pytest.mark.parametrize("link", [os.link, os.symlink, shutil.copyfile])
def test_equal_files_are_two_however_dvc_has_checked_them_out(
    here: Path, tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    (tmp_path / "cached").write_text("text")
    for name in "a.txt", "b.txt":
        link(tmp_path / "cached", here / name)
    assert ids("corpora/*.txt") == ["corpora/a.txt:1", "corpora/b.txt:1"]


def test_a_folder_that_only_dvc_has_is_refused(here: Path) -> None:
    (here / "a.txt").write_text("text")
    (here / "sub.dvc").write_text("outs:\n- md5: 0.dir\n  path: sub\n")
    for pattern in "corpora/**/*.txt", "corpora/sub/*.txt", "corpora/s*/*":
        with pytest.raises(
            UserError, match=r"corpora/sub\.dvc stands for what is not here: `dvc ch"
        ):
            ids(pattern)
    assert ids("corpora/*.txt") == ["corpora/a.txt:1"]


def test_a_file_that_only_dvc_has_and_that_nothing_asks_for_is_let_be(here: Path) -> None:
    (here / "sub").mkdir()
    (here / "sub/a.txt").write_text("text")
    (here / "huge.parquet.dvc").write_text("outs:\n- md5: 0\n  path: huge.parquet\n")
    for pattern in "corpora/**/*.txt", "corpora/*/*.txt":
        assert ids(pattern) == ["corpora/sub/a.txt:1"]
    with pytest.raises(UserError, match=r"corpora/huge\.parquet\.dvc stands for a file"):
        ids("corpora/*.parquet")


@pytest.mark.parametrize("name", ["b.jsonl.gz", "b.jsonl.zst", "b.jsonl.bz2", "b.txt.gz"])
def test_a_compressed_file_without_a_byte_is_refused(here: Path, name: str) -> None:
    (here / "a.txt").write_text("text")
    (here / name).touch()
    with pytest.raises(UserError, match=f"corpora/{name}: cannot be decompressed; is it whole"):
        ids("corpora/*")


def test_a_name_through_a_link_to_the_project_means_its_file(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "a.txt").write_text("text")
    link = tmp_path.with_name(f"{tmp_path.name}-link")
    link.symlink_to(Path.cwd())
    monkeypatch.setenv("PWD", str(link))
    assert ids(f"{link}/corpora/a.txt") == ["corpora/a.txt:1"]


def test_a_link_to_a_file_elsewhere_is_read_and_one_to_nothing_refused(
    here: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere.txt").write_text("text")
    (here / "a.txt").symlink_to(tmp_path / "elsewhere.txt")
    assert ids("corpora/*.txt") == ["corpora/a.txt:1"]
    (here / "b.txt").symlink_to("nothing.txt")
    with pytest.raises(UserError, match=r"corpora/b\.txt: a link to nothing"):
        ids("corpora/*.txt")


def test_only_what_dvc_watches_is_read(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.txt").write_text("text")
    (here / "linked").symlink_to(tmp_path / "elsewhere")
    mend = "copy or link the file itself into corpora/"
    for pattern, named in {
        "elsewhere/*.txt": "elsewhere/a.txt is not in corpora/",
        f"{tmp_path}/elsewhere/a.txt": "elsewhere/a.txt is not in corpora/",
        "**/*.txt": "elsewhere/a.txt is not in corpora/",
        "corpora/../elsewhere/a.txt": "corpora/../elsewhere/a.txt is not in corpora/",
        "corpora/linked/a.txt": "corpora/linked/a.txt is reached through the linked folder corpora",
        "corpora/*/*.txt": "corpora/linked/a.txt is reached through the linked folder",
        "corpora/**/*.txt": "matches no file; the linked folder corpora/linked is not entered",
    }.items():
        with pytest.raises(UserError) as error:
            ids(pattern)
        assert named in message(error)
        assert mend in message(error)
    (here / "b.txt").write_text("text")
    assert ids("corpora/**/*.txt") == ["corpora/b.txt:1"]
    assert f"the linked folder corpora/linked is not entered; to read a file, {mend}" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("mode", [0o000, 0o444])
@pytest.mark.parametrize("pattern", ["**/*.txt", "*/b.txt", "sub/*.txt", "{}/corpora/**"])
def test_a_folder_that_may_not_be_read_is_not_left_out(
    here: Path, tmp_path: Path, pattern: str, mode: int
) -> None:
    (here / "sub").mkdir()
    for name in "a.txt", "sub/b.txt":
        (here / name).write_text("text")
    pattern = pattern.format(tmp_path) if "{" in pattern else f"corpora/{pattern}"
    root = os.geteuid() == 0  # who may read all
    tmp_path.chmod(0o755)
    (here / "sub").chmod(mode)
    try:
        if root:
            os.seteuid(65534)
        with pytest.raises(UserError) as error:
            ids(pattern)
    finally:
        if root:
            os.seteuid(0)
        (here / "sub").chmod(0o755)
    assert f"data.files is {pattern!r}, and corpora/sub" in message(error)
    assert "may not be read; allow it, or narrow the glob" in message(error)


def test_a_folder_that_is_named_like_a_file_is_not_left_out(here: Path) -> None:
    table(here / "a.parquet", text=["one"])
    (here / "b.parquet").mkdir()
    table(here / "b.parquet/part-0.parquet", text=["two"])
    (here / "b.parquet/_SUCCESS").touch()
    for pattern in "corpora/*.parquet", "corpora/b.parquet":
        with pytest.raises(UserError) as error:
            ids(pattern)
        assert "corpora/b.parquet is a folder, though named like a file" in message(error)
    assert ids(message(error).rsplit(" ", 1)[1]) == ["corpora/b.parquet/part-0.parquet:1"]
    assert len(ids("corpora/**/*.parquet")) == 2


def test_a_pipe_is_no_folder(here: Path) -> None:
    (here / "a.txt").write_text("text")
    os.mkfifo(here / "b.txt")
    with pytest.raises(UserError, match=r"corpora/b\.txt is no file: a pipe or a device has no"):
        ids("corpora/*.txt")


@pytest.mark.parametrize("pattern", ["corpora/**.txt", "corpora/a**/*.txt"])
def test_stars_that_no_python_takes_alike_are_refused(here: Path, pattern: str) -> None:
    """Python 3.13 takes `**` within a name for `*`: folders would be left out without a word."""
    (here / "a.txt").write_text("text")
    with pytest.raises(UserError, match=r"no glob: `\*\*` stands for folders, between slashes"):
        ids(pattern)


@pytest.mark.parametrize("name", [".git/a.txt", "__pycache__/a.txt", "private.txt"])
def test_what_dvc_ignores_is_refused(here: Path, tmp_path: Path, name: str) -> None:
    from dvc.repo import Repo

    Repo.init(str(tmp_path), no_scm=True).close()
    (tmp_path / ".dvcignore").write_text("__pycache__\n")
    (here / ".dvcignore").write_text("private*\n")
    (here / name).parent.mkdir(exist_ok=True)
    (here / name).write_text("text")
    (here / "a.txt").write_text("text")
    assert ids("corpora/a.txt") == ["corpora/a.txt:1"]
    with pytest.raises(UserError, match=f"corpora/{name} is ignored by DVC"):
        ids(f"corpora/{name}")


def test_files_are_read_where_dvc_finds_no_git(here: Path, tmp_path: Path) -> None:
    """As in an archive of the project, where a stage runs by itself."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").touch()
    (here / "a.txt").write_text("text")
    assert ids("corpora/a.txt") == ["corpora/a.txt:1"]


@pytest.mark.parametrize("pattern", ["", "\0", "corpora/**.txt", "a" * 5000, "/", ".", "corpora"])
def test_what_is_no_name_is_said(here: Path, pattern: str) -> None:
    with pytest.raises(UserError) as error:
        ids(pattern)
    assert f"data.files is {pattern!r}, which" in message(error)


@pytest.mark.parametrize("block", [1, 2, 3, 1000])
@pytest.mark.parametrize("separator", ["\n\n", r"\n\n", "\r\n\r\n"])
@pytest.mark.parametrize("name", ["a.txt", "a.md"])
def test_windows_line_ends_count_as_line_ends(
    here: Path, monkeypatch: pytest.MonkeyPatch, name: str, separator: str, block: int
) -> None:
    monkeypatch.setattr(formats, "BLOCK", block)
    (here / name).write_bytes(b"one\r\ntwo\r\n\r\nthree\rfour\n\nfive\r\n\nsix\r\n\r\n")
    texts = [text for text, _, _ in own_files.documents(f"corpora/{name}", "text", separator)]
    assert texts == ["one\ntwo", "three\rfour", "five", "six"]
    (whole,) = own_files.documents(f"corpora/{name}", "text", None)
    assert whole.text == "one\ntwo\n\nthree\rfour\n\nfive\n\nsix"


@pytest.mark.parametrize(
    ("content", "separator", "texts"),
    [
        ("CHAPTER I\n\n\n\n\nIt was\n\n\n\n", "\n\n", ["CHAPTER I", "It was"]),
        ("<|endoftext|>one<|endoftext|>\n<|endoftext|>two", "<|endoftext|>", ["one", "two"]),
    ],
)
def test_where_nothing_stands_between_separators_there_is_no_document(
    here: Path, content: str, separator: str, texts: list[str]
) -> None:
    (here / "a.txt").write_text(content)
    found = own_files.documents("corpora/a.txt", "text", separator)
    assert [(text, id) for text, id, _ in found] == [
        (text, f"corpora/a.txt:{n}") for n, text in enumerate(texts, 1)
    ]


def test_a_tab_as_the_shell_leaves_it_parts_documents(here: Path) -> None:
    (here / "a.txt").write_text("one\ttwo")
    assert len(ids("corpora/a.txt", r"\t")) == 2


@pytest.mark.parametrize(
    ("content", "separator", "texts"),
    [
        ("one\r\n\r\ntwo", r"\r\n\r\n", ["one", "two"]),
        ("one\ftwo", r"\f", ["one", "two"]),  # as pdftotext parts pages
        ("1\f2", r"\f", ["1", "2"]),  # no longer than a byte order mark
        ("\f2", r"\f", ["2"]),
        (r"one\footnote two", r"\footnote", ["one", "two"]),
        (r"one\rule two", r"\rule", ["one", "two"]),
    ],
)
def test_other_white_space_as_the_shell_leaves_it_parts_documents(
    here: Path, content: str, separator: str, texts: list[str]
) -> None:
    (here / "a.txt").write_bytes(content.encode())
    found = [text for text, _, _ in own_files.documents("corpora/a.txt", "text", separator)]
    assert found == texts


@pytest.mark.parametrize(
    ("separator", "texts"),
    [
        (r"\\newpage", ["one", "two\nthree"]),
        (r"\n", [r"one\newpage two", "three"]),
        (r"\\", ["one", "newpage two\nthree"]),
    ],
)
def test_two_backslashes_before_n_are_one(here: Path, separator: str, texts: list[str]) -> None:
    if separator == r"\\":  # elsewhere they stay two
        (here / "a.txt").write_text("one\\\\newpage two\nthree")
    else:
        (here / "a.txt").write_text("one\\newpage two\nthree")
    found = [text for text, _, _ in own_files.documents("corpora/a.txt", "text", separator)]
    assert found == texts


def test_what_a_separator_was_taken_for_is_told(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "a.txt").write_text("one\\newpage two")
    assert len(ids("corpora/a.txt", r"\newpage")) == 1
    said = r"separator is '\newpage' (\n: a line end; \t: a tab; \\n: a backslash and an n), which"
    assert said in capsys.readouterr().err


def test_a_folder_that_is_called_like_a_file_of_dvc_is_a_folder(here: Path) -> None:
    (here / "a.txt").write_text("one")
    (here / "old.dvc").mkdir()
    assert len(ids("corpora/a.txt")) == len(ids("corpora/**")) == 1


def test_a_separator_that_occurs_nowhere_is_told(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "a.txt").write_text("one\ntwo")
    (here / "b.jsonl").write_text('{"text": "three"}')
    assert len(ids("corpora/*", "|")) == 2
    assert capsys.readouterr().err == (
        "warning: data.separator is '|', which occurs nowhere in 1 text file such as "
        "corpora/a.txt: each is one document\n"
    )
    ids("corpora/*", "\n")
    ids("corpora/*", None)
    ids("corpora/b.jsonl", "|")
    (here / "c.txt").write_text("three|")
    ids("corpora/*", "|")
    assert capsys.readouterr().err == ""


def test_files_that_are_not_in_this_copy_are_told(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "a.txt").write_text("text")
    (tmp_path / "main/corpora").mkdir(parents=True)
    for name in "a.txt", "b.txt", "c.txt":
        (tmp_path / "main/corpora" / name).write_text("text")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    assert ids("corpora/*.txt") == ["corpora/a.txt:1"]
    (line,) = capsys.readouterr().err.splitlines()
    assert "in which DVC runs this experiment lacks 2 files such as corpora/b.txt; " in line
    assert "`git add` or `dvc add`" in line
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    ids("corpora/*.txt")
    assert capsys.readouterr().err == ""


def test_a_name_from_the_root_means_the_file_of_the_copy(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "a.txt").write_text("text")
    copy = tmp_path / ".dvc/tmp/exps/copy"
    shutil.copytree(here, copy / "corpora")
    (copy / ".dvc").mkdir()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.chdir(copy)
    assert ids(f"{here}/a.txt") == ids(f"{copy}/corpora/*.txt") == ["corpora/a.txt:1"]
    for name in "nowhere/*.txt", ".dvc":
        with pytest.raises(UserError, match=r"data\.files is '/.*', which matches no file"):
            ids(f"{tmp_path}/{name}")
    with pytest.raises(UserError, match=r"data\.files is '/nowhere/a', which matches no file"):
        ids("/nowhere/a")


@pytest.mark.skipif(sys.platform == "darwin", reason="whose disks know no such name")
def test_a_name_that_is_not_utf8_is_not_taken_for_a_text_that_is_not(here: Path) -> None:
    Path(os.fsdecode(b"corpora/caf\xe9.txt")).write_text("text")
    with pytest.raises(UserError) as error:
        ids("corpora/*.txt")
    assert message(error) == r"'corpora/caf\udce9.txt': the file's name is not UTF-8; rename it"


def test_half_a_surrogate_pair_is_named(here: Path) -> None:
    (here / "a.jsonl").write_text(json.dumps({"text": "ok"}) + '\n{"text": "a\\ud800"}\n')
    with pytest.raises(UserError, match=r"document 'corpora/a\.jsonl:2': .* surrogate"):
        document.write(
            own_files.documents("corpora/a.jsonl", "text", None), here / "corpus.parquet"
        )
    assert not (here / "corpus.parquet").exists()
    with pytest.raises(UserError, match=r"document 'corpora/a\.jsonl:2': .* surrogate"):
        list(corpus.documents(data(files="corpora/a.jsonl", deduplicate=True)))
