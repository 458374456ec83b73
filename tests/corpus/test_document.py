import errno
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dropgpt.corpus import document
from dropgpt.corpus.document import Document
from dropgpt.errors import UserError


def some(count: int) -> Iterator[Document]:
    return (Document(f"text {n} ü€", f"id {n}", f"source {n // 2}") for n in range(count))


def test_a_corpus_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "folder/corpus.parquet"
    assert document.write(some(2500), path) == 2500
    assert list(document.read(path)) == list(some(2500))
    assert pq.read_schema(path).names == ["text", "id", "source"]


def test_equal_documents_make_equal_bytes(tmp_path: Path) -> None:
    document.write(some(2500), tmp_path / "a.parquet")
    document.write(list(some(2500)), tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_long_documents_make_smaller_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document, "GROUP_BYTES", 100)
    document.write(some(20), tmp_path / "a.parquet")
    assert pq.ParquetFile(tmp_path / "a.parquet").num_row_groups > 2
    assert list(document.read(tmp_path / "a.parquet")) == list(some(20))


def test_an_empty_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="empty corpus"):
        document.write([], tmp_path / "corpus.parquet")
    assert not list(tmp_path.iterdir())


def test_a_missing_corpus_names_its_stage(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"corpus\.parquet: no such file.*download_fineweb"):
        next(document.read(tmp_path / "corpus.parquet"))


@pytest.mark.parametrize("place", [0.3, 0.5, 1.0])
def test_a_damaged_corpus_is_refused(tmp_path: Path, place: float) -> None:
    path = tmp_path / "corpus.parquet"
    document.write(some(2500), path)
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"corpus\.parquet: .*download_fineweb"):
        list(document.read(path))


def test_a_parquet_file_that_is_no_corpus_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "corpus.parquet")
    with pytest.raises(UserError, match=r"corpus\.parquet: no column 'id'.*download_fineweb"):
        list(document.read(tmp_path / "corpus.parquet"))


@pytest.mark.parametrize(
    "error", [OSError(errno.EACCES, "may not"), OSError(errno.EIO, "fails"), pa.ArrowMemoryError()]
)
def test_what_befalls_this_machine_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise error

    path = tmp_path / "corpus.parquet"
    document.write(some(3), path)
    monkeypatch.setattr(pq, "ParquetFile", failing)
    monkeypatch.setattr(pq, "read_metadata", failing)
    with pytest.raises(type(error)):
        next(document.read(path))
    with pytest.raises(type(error)):
        document.about(path)
