"""Whatever comes in, what goes out is right or is an error in one line."""

import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from conftest import ROOT, data_params, message
from dropgpt import corpus
from dropgpt.corpus import document, hub_shards
from dropgpt.corpus.document import Document
from dropgpt.corpus.hub_shards import Shard
from dropgpt.errors import UserError
from dropgpt.model import artifact
from dropgpt.model.gpt import GPT
from dropgpt.params import Params, load
from dropgpt.tokens import tensor
from dropgpt.tokens.encoding import encode_documents, part_long
from dropgpt.tokens.vocabulary import N_VOCAB, gpt2_encoding

VALUES = YAML(typ="safe").load(ROOT / "params.yaml")
ENCODING = gpt2_encoding()
TEXTS = st.one_of(
    st.text(min_size=1),
    st.text(alphabet=string.ascii_letters + " \n", min_size=1),
    st.sampled_from(["<|endoftext|>", "\0", "a", " " * 5000, "🙂" * 3000, "\ufeff", "e\u0301"]),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(), st.integers(), max_size=2),
)

# A fixture of one test case serves all of its examples; each overwrites what the last one wrote.
shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def leaves(values: dict[str, Any], *path: str) -> list[tuple[str, ...]]:
    found = []
    for key, value in values.items():
        found += leaves(value, *path, key) if isinstance(value, dict) else [(*path, key)]
    return found


@shared
@given(key=st.sampled_from(leaves(VALUES)), value=SCALARS)
def test_any_parameter_is_taken_as_it_is_or_named(
    tmp_path: Path, key: tuple[str, ...], value: Any
) -> None:
    values = YAML(typ="safe").load(ROOT / "params.yaml")
    place = values
    for name in key[:-1]:
        place = place[name]
    place[key[-1]] = value
    path = tmp_path / "params.yaml"
    with path.open("wb") as file:
        YAML().dump(values, file)
    try:
        found: Any = load(path)
    except UserError as error:
        assert key[0] in str(error)
        assert "\n" not in str(error)
        return
    assert isinstance(found, Params)
    for name in key:
        found = getattr(found, name)
    assert found == value


@shared
@given(content=st.one_of(st.binary(), st.text().map(str.encode)))
def test_any_file_of_parameters_is_read_or_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        load(path)
    assert str(path) in message(error)


@shared
@example(texts=["many words " * 300_000, "few words"])
@given(texts=st.lists(TEXTS, min_size=1, max_size=20))
def test_documents_and_tokens_come_back_as_they_were(tmp_path: Path, texts: list[str]) -> None:
    documents = [Document(text, f"id {n}", f"source {n}") for n, text in enumerate(texts)]
    path = tmp_path / "documents.parquet"
    try:
        assert document.write(documents, path) == len(texts)
    except UserError as error:
        assert "half a surrogate pair" in str(error)
        assert any(any("\ud800" <= c <= "\udfff" for c in text) for text in texts)
        return
    assert list(document.read(path)) == documents
    try:
        encoded = encode_documents(document.read(path), ENCODING, True)
        tensor.write(part_long(encoded, ENCODING, 0.1), tmp_path / "tokens", N_VOCAB, 0.1)
    except UserError as error:
        assert "holds out every " in str(error)
        return
    tokens = tensor.read(tmp_path / "tokens")
    assert len(tokens.train) > 0
    assert len(tokens.held_out) >= 0.1 * len(tokens.tokens)
    ends = tokens.documents.tokens.cumsum().tolist()
    if len(ends) > len(texts):  # one is parted, and the second part is the first held out
        n = tokens.documents.held_out.argmax() - 1
        begin = ENCODING.decode(tokens.tokens[ends[n - 1] if n else 0 : ends[n] - 1].tolist())
        texts[n : n + 1] = [begin, texts[n].removeprefix(begin)]
    assert len(ends) == len(texts)
    for text, start, end in zip(texts, [0, *ends], ends, strict=False):
        assert tokens.tokens[end - 1] == N_VOCAB - 1
        assert ENCODING.decode(tokens.tokens[start : end - 1].tolist()) == text
    assert tokens.documents.bytes.tolist() == [len(text.encode()) for text in texts]
    assert len(tokens.train) + len(tokens.held_out) == len(tokens.tokens)


@shared
@given(
    content=st.one_of(st.binary(), st.text().map(lambda text: text.encode(errors="replace"))),
    suffix=st.sampled_from([".txt", ".jsonl", ".parquet", ".json", ".csv", ".txt.gz", ".csv.zst"]),
    separator=st.one_of(st.none(), st.sampled_from(["\n", "<|endoftext|>", "a"])),
)
def test_any_file_of_your_own_is_read_or_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
    suffix: str,
    separator: str | None,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"corpora/own{suffix}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    data = data_params(files=f"corpora/*{suffix}", separator=separator)
    try:
        found = list(corpus.documents(data))
    except UserError as error:
        assert "own" in str(error) or "no document" in str(error)
        assert "\n" not in str(error)
        return
    assert found
    assert all(text.strip() for text, _, _ in found)


def damage(data: st.DataObject, whole: bytes) -> bytes:
    """`whole`, cut off or with some bytes changed."""
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        return whole[:place]
    other = data.draw(st.binary(min_size=1, max_size=8))
    return whole[:place] + other + whole[place + len(other) :]


def test_a_damaged_corpus_is_noticed(tmp_path: Path) -> None:
    documents = [Document(f"text {n} " * 9, f"id {n}", f"source {n}") for n in range(20)]
    path = tmp_path / "documents.parquet"
    document.write(documents, path)
    for _ in damaged_everywhere(path):
        try:
            assert list(document.read(path)) == documents
        except UserError as error:
            assert str(path) in str(error)
            assert "`dvc checkout download_fineweb` brings it back" in str(error)
            assert "\n" not in str(error)


def test_a_damaged_list_of_shards_is_noticed(tmp_path: Path) -> None:
    """Of the shards, and of what is held out of them."""
    shards = [Shard(f"data/{n}.parquet", f"{n:040x}", 0, 4, 100 * n, 100) for n in range(3)]
    path, about = tmp_path / "documents.parquet", {"held_out": 1, "card": {"license": "mit"}}
    hub_shards.write(shards, path, about)
    for _ in damaged_everywhere(path):
        try:
            assert (hub_shards.read(path), document.about(path)) == (shards, about)
        except UserError as error:
            assert str(path) in str(error)
            assert "`dvc repro download_fineweb` makes it again" in str(error)
            assert "\n" not in str(error)


def damaged_everywhere(path: Path) -> Iterator[None]:
    """The file cut off at each byte, and with another in its place."""
    whole = path.read_bytes()
    for place in range(len(whole)):
        flipped, rest = bytes([whole[place] ^ 1]), whole[place + 1 :]
        for other in (b"", flipped + rest, b"\xff" + rest):  # no text in UTF-8 holds \xff
            path.write_bytes(whole[:place] + other)
            yield


@pytest.fixture
def folder(make_gpt: Callable[..., GPT], tmp_path: Path) -> Path:
    """A model beside a token tensor."""
    artifact.save(make_gpt(), tmp_path / "gpt")
    documents = [Document(f"text {n}", f"id {n}", f"source {n}") for n in range(9)]
    tensor.write(encode_documents(documents, ENCODING, True), tmp_path / "tokens", N_VOCAB, 0.1)
    return tmp_path


@shared
@given(data=st.data())
@pytest.mark.parametrize(("name", "read"), [("gpt", artifact.load), ("tokens", tensor.read)])
def test_a_damaged_folder_is_noticed(
    folder: Path, name: str, read: Callable[[Path], Any], data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from(sorted((folder / name).iterdir())))
    whole = path.read_bytes()
    damaged = damage(data, whole)
    path.write_bytes(damaged)
    try:
        if damaged != whole:
            with pytest.raises(UserError, match=f"{name} is damaged: "):
                read(folder / name)
    finally:
        path.write_bytes(whole)
