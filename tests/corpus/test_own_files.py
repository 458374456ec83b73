import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import data_params as data
from conftest import message
from dropgpt import corpus
from dropgpt.corpus import document, own_files
from dropgpt.corpus.document import Document
from dropgpt.errors import UserError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(path: Path, **columns: Any) -> None:
    pq.write_table(pa.table(columns), path)


def test_files_come_sorted_from_every_folder(here: Path) -> None:
    (here / "b/c").mkdir(parents=True)
    for name in "b/c/2.txt", "b/1.txt", "a.txt":
        (here / name).write_text(f"text of {name}")
    assert list(corpus.documents(data(files="**/*.txt"))) == [
        Document("text of a.txt", "a.txt:1", "a.txt:1"),
        Document("text of b/1.txt", "b/1.txt:1", "b/1.txt:1"),
        Document("text of b/c/2.txt", "b/c/2.txt:1", "b/c/2.txt:1"),
    ]


def test_formats_mix(here: Path) -> None:
    table(here / "a.parquet", text=["one", " two\n"], other=[1, 2])
    (here / "b.jsonl").write_text('{"text": "three"}\n\n{"x": 1, "text": "v\\u00fcnf"}\n')
    (here / "c.txt").write_bytes("\ufeffsechs\n<|endoftext|>\nsieben\n<|endoftext|>\n".encode())
    assert [(found.text, found.id) for found in corpus.documents(data(files="*.*"))] == [
        ("one", "a.parquet:1"),
        (" two\n", "a.parquet:2"),
        ("three", "b.jsonl:1"),
        ("vünf", "b.jsonl:3"),
        ("sechs", "c.txt:1"),
        ("sieben", "c.txt:2"),
    ]


@pytest.mark.parametrize("block", [1, 2, 7, 1000])
def test_a_text_file_is_cut_wherever_its_blocks_end(
    here: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(own_files, "BLOCK", block)
    texts = ["ä", "a document that is longer than the others", "<|endof|>", "€uro"]
    (here / "a.txt").write_text("<|endoftext|>".join(texts), encoding="utf-8")
    assert [found.text for found in own_files.documents("*.txt", "text", "<|endoftext|>")] == texts


def test_without_a_separator_a_file_is_a_document(here: Path) -> None:
    (here / "a.txt").write_text("one <|endoftext|>\n\n two\n")
    (found,) = corpus.documents(data(separator=None))
    assert found.text == "one <|endoftext|>\n\n two"


def test_another_column_and_key(here: Path) -> None:
    table(here / "a.parquet", body=pa.array(["one"], pa.large_string()))
    (here / "b.jsonl").write_text('{"body": "two"}')
    assert [found.text for found in own_files.documents("*", "body", None)] == ["one", "two"]


BROKEN = {
    "empty.txt": (b"", "empty.txt, document 1: the text is empty"),
    "blank.txt": (b" \n", "blank.txt, document 1: the text is empty"),
    "gap.txt": (b"one|\n|two", "gap.txt, document 2: the text is empty"),
    "latin.txt": (b"one|tw\xf6", "latin.txt: not UTF-8 text at byte 6"),
    "latin-bom.txt": (b"\xef\xbb\xbfone|tw\xf6", "latin-bom.txt: not UTF-8 text at byte 9"),
    "latin.jsonl": (b'{"text": "a"}\n{"text": "\xf6"}\n', "latin.jsonl: not UTF-8 text at byte 24"),
    "bad.jsonl": (b'{"text": "a"}\n{"text": \n', "bad.jsonl, line 2: not JSON: "),
    "list.jsonl": (b'["a"]\n', "list.jsonl, line 1: no key 'text' (data.text_column)"),
    "key.jsonl": (b'{"a": 1, "b": 2}\n', "line 1: no key 'text' (data.text_column); it has a, b"),
    "number.jsonl": (b'{"text": 1}\n', "number.jsonl, line 1: 'text' is int, not a string"),
    "null.jsonl": (b'{"text": "a"}\n{"text": null}\n', "null.jsonl, line 2: 'text' is null"),
    "blank.jsonl": (b'{"text": " \\n"}\n', "blank.jsonl, line 1: the text is empty"),
    "none.jsonl": (b"\n", "data.files is 'none.jsonl': no document"),
    "text.parquet": (b"This is no parquet.", "text.parquet: cannot be read as parquet"),
    "empty.parquet": (b"", "empty.parquet: cannot be read as parquet"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_with_the_place(here: Path, name: str) -> None:
    content, expected = BROKEN[name]
    (here / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        list(own_files.documents(name, "text", "|"))
    assert expected in message(error)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"body": ["a"], "id": [1]}, "a.parquet: no column 'text'; it has body, id"),
        ({"text": [1]}, "a.parquet: column 'text' is int64, not string"),
        ({"text": [["a"]]}, "a.parquet: column 'text' is list<"),
        ({"text": ["a", None]}, "a.parquet, row 2: 'text' is null, not a string"),
        ({"text": ["a", "b", " "]}, "a.parquet, row 3: the text is empty"),
        ({"text": pa.array([], pa.string())}, "data.files is '*.parquet': no document"),
        (
            {"text": pa.array([b"a", b"\xf6"]).view(pa.string())},
            "a.parquet, row 2: not UTF-8 at its byte 0",
        ),
    ],
)
def test_a_bad_column_is_named(here: Path, columns: dict[str, Any], expected: str) -> None:
    table(here / "a.parquet", **columns)
    with pytest.raises(UserError) as error:
        list(own_files.documents("*.parquet", "text", None))
    assert expected in message(error)


def test_a_parquet_file_cut_short_is_refused(here: Path) -> None:
    table(here / "a.parquet", text=["a" * 1000])
    content = (here / "a.parquet").read_bytes()
    (here / "a.parquet").write_bytes(content[:-10])
    with pytest.raises(UserError, match=r"a\.parquet: cannot be read as parquet; is it whole\?"):
        list(own_files.documents("*.parquet", "text", None))


def test_files_of_another_kind_or_none_are_refused(here: Path) -> None:
    with pytest.raises(UserError, match=r"data\.files is 'no/\*\.txt', which matches no file"):
        list(own_files.documents("no/*.txt", "text", None))
    (here / "a.txt").write_text("a")
    (here / "b.csv").write_text("b")
    with pytest.raises(UserError, match=r"data\.files is '\*', which matches b\.csv"):
        next(own_files.documents("*", "text", None))


def test_half_a_surrogate_pair_is_named(here: Path) -> None:
    (here / "a.jsonl").write_text(json.dumps({"text": "ok"}) + '\n{"text": "a\\ud800"}\n')
    with pytest.raises(UserError, match=r"document 'a\.jsonl:2': .* surrogate"):
        document.write(own_files.documents("a.jsonl", "text", None), here / "corpus.parquet")
    assert not (here / "corpus.parquet").exists()
