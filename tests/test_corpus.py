"""corpus.py: where documents come from, and what a user is told when they do not come."""

import hashlib
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import hub
from dropgpt import corpus, params
from dropgpt.corpus import Document
from dropgpt.errors import UserError


def data(**values: Any) -> params.Data:
    defaults = {
        "source": "files",
        "documents": 3,
        "config": hub.CONFIG,
        "revision": hub.REVISION,
        "files": "*.txt",
        "text_column": "text",
        "separator": "<|endoftext|>",
    }
    return params.Data.model_validate(defaults | values)


def message(error: pytest.ExceptionInfo[UserError]) -> str:
    """What the user reads: one line."""
    assert "\n" not in str(error.value)
    return str(error.value)


# --- Wikipedia ---


@pytest.fixture(scope="module")
def articles() -> list[Document]:
    return list(corpus.documents(data(source="wikipedia")))


def test_wikipedia_has_the_documented_size(articles: list[Document]) -> None:
    assert len(articles) == 1561
    assert 2_600_000 < sum(len(document.text) for document in articles) < 2_700_000
    assert all(len(document.text) >= 200 for document in articles)


def test_wikipedia_documents_belong_to_articles(articles: list[Document]) -> None:
    assert len({document.id for document in articles}) == len(articles)
    assert articles[0].id == "Anarchism#1"
    assert articles[0].text.startswith("Anarchism is a political philosophy that advocates")
    for document in articles:
        assert re.fullmatch(re.escape(document.source) + r"#\d+", document.id)


def test_wikipedia_is_prose(articles: list[Document]) -> None:
    for document in articles:
        assert not re.search(r"\[\[|\]\]|\{\{|\}\}|''|</?ref|^==|\|$", document.text, re.M), (
            document
        )
        assert not re.search(r"^[*#:;]|^\s|\s$|  |\n\n", document.text, re.M), document


def test_wikipedia_is_the_same_each_time(articles: list[Document]) -> None:
    assert list(corpus.wikipedia()) == articles


def test_a_damaged_wikipedia_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "enwiki.bz2"
    content = bytearray(corpus._wikipedia_path().read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    monkeypatch.setattr(corpus, "_wikipedia_path", lambda: damaged)
    with pytest.raises(UserError) as error:
        next(corpus.wikipedia())
    assert str(damaged) in message(error)
    assert corpus.WIKIPEDIA_SHA256 in message(error)
    assert hashlib.sha256(content).hexdigest() in message(error)
    assert "pip install --force-reinstall gensim==" in message(error)


def test_a_missing_wikipedia_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "_wikipedia_path", lambda: tmp_path / "enwiki.bz2")
    with pytest.raises(UserError, match=r"enwiki\.bz2: No such file.*force-reinstall gensim"):
        next(corpus.wikipedia())


# --- FineWeb, from a hub on the loopback; its client reads HF_* in a process of its own ---


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_TOKEN", "HF_HUB_CACHE":
        monkeypatch.delenv(name, raising=False)
    for name in "NO_PROXY", "no_proxy":
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    # The hub's client pauses for 23 seconds between its attempts. A test need not.
    (tmp_path / "sitecustomize.py").write_text("import time\ntime.sleep = lambda seconds: None\n")
    path = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{path}" if path else str(tmp_path))
    return monkeypatch


def rows(*numbers: int) -> list[dict[str, Any]]:
    """Rows of FineWeb with texts that do not compress, so that a file is not in one piece."""
    return [
        {
            "text": f"text {n} " + random.Random(n).randbytes(300).hex(),
            "id": f"<urn:uuid:{n}>",
            "url": f"http://site/{n}",
            "token_count": n,
        }
        for n in numbers
    ]


def test_fineweb_gives_its_first_rows_in_order(online: pytest.MonkeyPatch) -> None:
    first, second = rows(*range(3)), rows(*range(3, 6))
    first[1]["url"] = None
    second[0]["id"] = second[0]["url"] = None
    with hub.serving(first, second) as endpoint:
        online.setenv("HF_ENDPOINT", endpoint)
        found = list(corpus.documents(data(source="fineweb", documents=5)))
    assert [document.text for document in found] == [row["text"] for row in first + second[:2]]
    assert [(document.id, document.source) for document in found] == [
        ("<urn:uuid:0>", "http://site/0"),
        ("<urn:uuid:1>", "<urn:uuid:1>"),
        ("<urn:uuid:2>", "http://site/2"),
        ("fineweb:3", "fineweb:3"),
        ("<urn:uuid:4>", "http://site/4"),
    ]


def test_a_short_fineweb_does_not_pass_for_whole(
    online: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with hub.serving(rows(0, 1), rows(2)) as endpoint:
        online.setenv("HF_ENDPOINT", endpoint)
        with pytest.raises(UserError) as error:
            corpus.write(corpus.fineweb(4, hub.CONFIG, hub.REVISION), tmp_path / "corpus.parquet")
    assert "data.documents is 4" in message(error)
    assert "only 3" in message(error)
    assert not (tmp_path / "corpus.parquet").exists()


def test_a_line_cut_in_mid_file_leaves_the_earlier_corpus(
    online: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    output = tmp_path / "corpus.parquet"
    output.write_bytes(b"earlier")
    before = sorted(os.listdir(tmp_path))
    with hub.serving(rows(0, 1), rows(*range(2, 1000)), fault="cut") as endpoint:
        online.setenv("HF_ENDPOINT", endpoint)
        stream = corpus.fineweb(1000, hub.CONFIG, hub.REVISION)
        head = [next(stream), next(stream)]  # it was in the middle
        with pytest.raises(UserError) as error:
            corpus.write((document for part in (head, stream) for document in part), output)
    assert f"cannot read HuggingFaceFW/fineweb from {endpoint}" in message(error)
    assert "peer closed connection" in message(error)
    assert "dvc exp run -S data.source=wikipedia" in message(error)
    assert output.read_bytes() == b"earlier"
    assert sorted({*os.listdir(tmp_path)} - {"hub"}) == before


def test_a_hub_that_stalls_is_given_up(online: pytest.MonkeyPatch) -> None:
    online.setattr(corpus, "PATIENCE", 4)
    start = time.monotonic()
    with hub.serving(rows(*range(1000)), fault="stall") as endpoint:
        online.setenv("HF_ENDPOINT", endpoint)
        with pytest.raises(UserError, match=r"nothing came for 4 seconds.*data\.source=wikipedia"):
            next(corpus.fineweb(1, hub.CONFIG, hub.REVISION))
    assert time.monotonic() - start < 30


def test_without_a_hub_the_user_learns_what_runs_offline(online: pytest.MonkeyPatch) -> None:
    with hub.serving() as endpoint:
        pass  # a port that was open and is closed
    online.setenv("HF_ENDPOINT", endpoint.replace("://", "://user:password@"))
    online.setenv("HF_TOKEN", "hf_token")
    start = time.monotonic()
    with pytest.raises(UserError) as error:
        next(corpus.fineweb(3, hub.CONFIG, hub.REVISION))
    assert time.monotonic() - start < 30
    assert f"cannot read HuggingFaceFW/fineweb from {endpoint}: ConnectError" in message(error)
    assert "dvc exp run -S data.source=wikipedia" in message(error)
    assert "password" not in message(error)
    assert "hf_token" not in message(error)


def test_no_cached_copy_stands_in_for_the_hub(online: pytest.MonkeyPatch) -> None:
    with hub.serving(rows(0)) as endpoint:
        code = "import sys, datasets; datasets.load_dataset(*sys.argv[1:3], revision=sys.argv[3])"
        command = [sys.executable, "-c", code, corpus.FINEWEB, hub.CONFIG, hub.REVISION]
        environment = {**os.environ, "HF_ENDPOINT": endpoint}
        subprocess.run(command, env=environment, check=True, capture_output=True)
    with hub.serving(rows(0), fault="listing") as endpoint:
        online.setenv("HF_ENDPOINT", endpoint)
        with pytest.raises(UserError, match=f"cannot read HuggingFaceFW/fineweb from {endpoint}"):
            next(corpus.fineweb(1, hub.CONFIG, hub.REVISION))


def test_an_unknown_config_or_revision_is_named(online: pytest.MonkeyPatch) -> None:
    with hub.serving(rows(0)) as endpoint:
        online.setenv("HF_ENDPOINT", endpoint)
        with pytest.raises(UserError, match=r"data\.config is 'CC-MAIN-1066-01', which .* not"):
            next(corpus.fineweb(1, "CC-MAIN-1066-01", hub.REVISION))
        with pytest.raises(UserError, match=r"data\.revision is 'v9', which .* does not have"):
            next(corpus.fineweb(1, hub.CONFIG, "v9"))


def test_an_error_shows_no_credential() -> None:
    text = "GET http://me:secret@host/a?Signature=secret&x=1 'Bearer secret' hf_secret"
    assert corpus._public(text) == "GET http://host/a 'Bearer ***' hf_***"


# --- files ---


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
    monkeypatch.setattr(corpus, "BLOCK", block)
    texts = ["ä", "a document that is longer than the others", "<|endof|>", "€uro"]
    (here / "a.txt").write_text("<|endoftext|>".join(texts), encoding="utf-8")
    assert [found.text for found in corpus.files("*.txt", "text", "<|endoftext|>")] == texts


def test_without_a_separator_a_file_is_a_document(here: Path) -> None:
    (here / "a.txt").write_text("one <|endoftext|>\n\n two\n")
    (found,) = corpus.documents(data(separator=None))
    assert found.text == "one <|endoftext|>\n\n two"


def test_another_column_and_key(here: Path) -> None:
    table(here / "a.parquet", body=pa.array(["one"], pa.large_string()))
    (here / "b.jsonl").write_text('{"body": "two"}')
    assert [found.text for found in corpus.files("*", "body", None)] == ["one", "two"]


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
        list(corpus.files(name, "text", "|"))
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
        list(corpus.files("*.parquet", "text", None))
    assert expected in message(error)


def test_a_parquet_file_cut_short_is_refused(here: Path) -> None:
    table(here / "a.parquet", text=["a" * 1000])
    content = (here / "a.parquet").read_bytes()
    (here / "a.parquet").write_bytes(content[:-10])
    with pytest.raises(UserError, match=r"a\.parquet: cannot be read as parquet; is it whole\?"):
        list(corpus.files("*.parquet", "text", None))


def test_files_of_another_kind_or_none_are_refused(here: Path) -> None:
    with pytest.raises(UserError, match=r"data\.files is 'no/\*\.txt', which matches no file"):
        list(corpus.files("no/*.txt", "text", None))
    (here / "a.txt").write_text("a")
    (here / "b.csv").write_text("b")
    with pytest.raises(UserError, match=r"data\.files is '\*', which matches b\.csv"):
        next(corpus.files("*", "text", None))


# --- the corpus as a file ---


def some(count: int) -> Iterator[Document]:
    return (Document(f"text {n} ü€", f"id {n}", f"source {n // 2}") for n in range(count))


def test_a_corpus_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "folder/corpus.parquet"
    assert corpus.write(some(2500), path) == 2500
    assert list(corpus.read(path)) == list(some(2500))
    assert pq.read_schema(path).names == ["text", "id", "source"]


def test_equal_documents_make_equal_bytes(tmp_path: Path) -> None:
    corpus.write(some(2500), tmp_path / "a.parquet")
    corpus.write(list(some(2500)), tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_long_documents_make_smaller_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "GROUP_BYTES", 100)
    corpus.write(some(20), tmp_path / "a.parquet")
    assert pq.ParquetFile(tmp_path / "a.parquet").num_row_groups > 2
    assert list(corpus.read(tmp_path / "a.parquet")) == list(some(20))


def test_an_empty_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="empty corpus"):
        corpus.write([], tmp_path / "corpus.parquet")
    assert not list(tmp_path.iterdir())


def test_half_a_surrogate_pair_is_named(here: Path) -> None:
    (here / "a.jsonl").write_text(json.dumps({"text": "ok"}) + '\n{"text": "a\\ud800"}\n')
    with pytest.raises(UserError, match=r"document 'a\.jsonl:2': .* surrogate"):
        corpus.write(corpus.files("a.jsonl", "text", None), here / "corpus.parquet")
    assert not (here / "corpus.parquet").exists()


def test_a_missing_corpus_names_its_stage(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"corpus\.parquet: no such file.*download_fineweb"):
        next(corpus.read(tmp_path / "corpus.parquet"))


@pytest.mark.parametrize("place", [0.3, 0.5, 1.0])
def test_a_damaged_corpus_is_refused(tmp_path: Path, place: float) -> None:
    path = tmp_path / "corpus.parquet"
    corpus.write(some(2500), path)
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"corpus\.parquet: .*download_fineweb"):
        list(corpus.read(path))


def test_a_parquet_file_that_is_no_corpus_is_refused(tmp_path: Path) -> None:
    table(tmp_path / "corpus.parquet", text=["a"])
    with pytest.raises(UserError, match=r"corpus\.parquet: no column 'id'.*download_fineweb"):
        list(corpus.read(tmp_path / "corpus.parquet"))
