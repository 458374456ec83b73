import hashlib
import os
from itertools import count, islice, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import second_of_two
from dropgpt.corpus.document import Document
from dropgpt.errors import UserError
from dropgpt.machine.files import SUMS
from dropgpt.reporting.results import _corpus
from dropgpt.tokens import tensor
from dropgpt.tokens.encoding import checksum_of_parted, encode_documents, part_long
from dropgpt.tokens.statistics import (
    copies_lines,
    count_tokens,
    describe,
    held_out_lines,
    rank_frequency,
)
from dropgpt.tokens.vocabulary import N_VOCAB, gpt2_encoding
from stages.evaluate import counted

ENCODING = gpt2_encoding()
DOCUMENTS = [
    Document("The cat sat.", "a#1", "a"),
    Document("The dog, 天地 🙂.", "a#2", "a"),
    Document("A bird sat on the cat, and the cat on it.", "b#1", "b"),
    Document("It <|endoftext|> ran.", "b#2", "b"),
]


def write(folder: Path, fraction: float = 0.1, end_of_text: bool = True) -> tensor.TokenTensor:
    encoded = encode_documents(DOCUMENTS, gpt2_encoding(), end_of_text)
    tensor.write(encoded, folder, N_VOCAB, fraction)
    return tensor.read(folder)


def test_the_tensor_is_the_documents_one_after_another(tmp_path: Path) -> None:
    tokens = write(tmp_path / "tokens")
    assert isinstance(tokens.tokens, np.memmap)
    assert tokens.tokens.dtype == np.uint16
    ends = np.flatnonzero(tokens.tokens == N_VOCAB - 1)
    assert len(ends) == 4  # the one that the last text spells is ordinary text
    texts = [gpt2_encoding().decode(part) for part in np.split(tokens.tokens, ends + 1)[:-1]]
    assert texts == [document.text + "<|endoftext|>" for document in DOCUMENTS]
    assert tokens.documents.tokens.sum() == len(tokens.tokens)
    assert tokens.documents.bytes.tolist() == [len(d.text.encode()) for d in DOCUMENTS]


def test_end_of_text_may_be_left_out(tmp_path: Path) -> None:
    tokens = write(tmp_path / "tokens", end_of_text=False)
    assert N_VOCAB - 1 not in tokens.tokens
    assert len(tokens.tokens) == len(write(tmp_path / "with").tokens) - 4


def test_documents_keep_their_order_and_come_before_the_last_is_read() -> None:
    endless = (Document("one " * (number % 7), str(number), "") for number in count())
    encoded = islice(encode_documents(endless, gpt2_encoding(), end_of_text=True), 1000)
    encoding = gpt2_encoding()
    for number, (document, ids) in enumerate(encoded):
        assert document.id == str(number)
        assert encoding.decode(ids) == document.text + "<|endoftext|>"


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.6])
def test_whole_articles_are_held_out(tmp_path: Path, fraction: float) -> None:
    tokens = write(tmp_path / "tokens", fraction)
    assert tokens.documents.held_out.tolist() == [False, False, True, True]
    assert len(tokens.held_out) >= fraction * len(tokens.tokens)
    assert len(tokens.train) + len(tokens.held_out) == len(tokens.tokens)


@pytest.mark.parametrize("shards", [1, 3])
def test_copies_of_held_out_documents_are_found(tmp_path: Path, shards: int) -> None:
    """In the training part; twice among what is held out is no copy there."""
    texts = ["one", "two", "three", "two", "four", "four", "one"]
    documents = [Document(text, str(n), str(n)) for n, text in enumerate(texts)]
    encoded = list(encode_documents(documents, ENCODING, end_of_text=True))
    for shard in range(shards):
        part = encoded[shard * 7 // shards : (shard + 1) * 7 // shards]
        tensor.write_shard(part, tmp_path / str(shard))
    if shards == 1:
        tensor.write(encoded, tmp_path / "tokens", N_VOCAB, 0.5)
    else:
        parts = [tmp_path / str(shard) for shard in range(shards)]
        tensor.join(parts, tmp_path / "tokens", N_VOCAB, 0.5)
    found = tensor.read(tmp_path / "tokens").documents
    held_out = found[found.held_out]
    assert held_out.id.tolist() == ["3", "4", "5", "6"]
    assert tensor.copies(tmp_path / "tokens", held_out).id.tolist() == ["3", "6"]
    others = held_out.assign(sha256=found.sha256.iloc[0])
    assert copies_lines(others, others, "documents of x") == [
        "warning: 4 of 4 documents of x, 14 of 14 bytes, stand word for word in the training part, "
        "too"
    ]
    assert copies_lines(others[:0], others, "documents of x") == []


def test_nothing_left_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"validation_fraction 0.9 holds out every article"):
        write(tmp_path / "tokens", 0.9)
    assert list(tmp_path.iterdir()) == []

    with pytest.raises(UserError, match=r"lower it to 0\.622, or take more") as error:
        write(tmp_path / "tokens", 0.9)
    most = float(str(error.value).split("lower it to ")[1].split(",")[0])
    assert write(tmp_path / "tokens", most).n_train > 0  # the advice helps
    with pytest.raises(UserError, match="holds out every"):
        write(tmp_path / "tokens", most + 0.005)


def split(
    folder: Path, documents: list[Document], fraction: float = 0.1, end_of_text: bool = True
) -> tensor.TokenTensor:
    """As the stage does it: a document too long to be held out whole is parted."""
    encoded = encode_documents(documents, ENCODING, end_of_text)
    tensor.write(part_long(encoded, ENCODING, fraction), folder, N_VOCAB, fraction)
    return tensor.read(folder)


@pytest.mark.parametrize("end_of_text", [True, False])
@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize(
    "text",
    [
        "To be, or not to be:\n\nthat is  the question. " * 200,
        "天地玄黄宇宙洪荒🙂" * 200,  # no white space
        "a" * 5000,
    ],
)
def test_the_end_of_a_single_text_is_held_out(
    tmp_path: Path, text: str, fraction: float, end_of_text: bool
) -> None:
    one = Document(text, "corpora/a.txt:1", "corpora/a.txt:1")
    tokens = split(tmp_path / "tokens", [one], fraction, end_of_text)
    ids = ["corpora/a.txt:1 [training]", "corpora/a.txt:1 [held out]"]
    assert tokens.documents.id.tolist() == ids
    assert tokens.documents.held_out.tolist() == [False, True]
    assert fraction <= len(tokens.held_out) / len(tokens.tokens) < fraction + 0.05
    closing = [N_VOCAB - 1] * end_of_text
    texts = []
    for part in (tokens.train.tolist(), tokens.held_out.tolist()):
        assert part[len(part) - len(closing) :] == closing
        texts.append(ENCODING.decode(part[: len(part) - len(closing)], errors="strict"))
    assert "".join(texts) == text
    assert tokens.documents.bytes.tolist() == [len(part.encode()) for part in texts]
    if " " in text:
        assert texts[1][0].isspace()
        assert not texts[0][-1].isspace()
    (line, *_) = held_out_lines(tokens, fraction, 1)
    assert "the end of corpora/a.txt:1, the only document" in line


def test_a_text_too_short_to_part_asks_for_more_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"corpus of 1, of 2 tokens; take more text") as error:
        split(tmp_path / "tokens", [Document("a", "a", "a")])
    assert "lower it" not in str(error.value)


def test_the_least_fraction_holds_out_the_end_and_a_document_may_be_empty(tmp_path: Path) -> None:
    """1 - 1e-17 is 1 in float64; without <|endoftext|> an empty text has no token."""
    tokens = split(tmp_path / "least", [Document("To be, or not to be.", "a", "a")], 1e-17)
    assert tokens.documents.held_out.tolist() == [False, True]
    assert len(tokens.held_out) > 0
    empty, *full = (Document(text, text, text) for text in ("", " one" * 90, " two" * 10))
    tokens = split(tmp_path / "empty", [empty, *full], 0.1, end_of_text=False)
    assert tokens.documents.tokens.tolist() == [0, 90, 10]
    assert tokens.documents.held_out.tolist() == [False, False, True]


def test_documents_of_one_article_are_parted_between_them(tmp_path: Path) -> None:
    sections = [Document("Some words of a section.", f"a#{n}", "a") for n in range(10)]
    tokens = split(tmp_path / "tokens", sections, 0.2)
    assert tokens.documents.held_out.tolist() == [False] * 8 + [True] * 2


def test_a_corpus_of_many_documents_is_not_read_ahead() -> None:
    endless = (Document("one", str(n), str(n)) for n in count())
    encoded = part_long(encode_documents(endless, ENCODING, True), ENCODING, 0.1)
    assert [document.id for document, _ in islice(encoded, 4)] == ["0", "1", "2", "3"]


def test_what_is_held_out_is_said_and_why_it_is_far_more_than_asked(tmp_path: Path) -> None:
    short = [Document("word " * 300, f"{n}.txt:1", f"{n}.txt:1") for n in range(9)]
    tokens = split(tmp_path / "short", short)
    assert held_out_lines(tokens, 0.1, 9) == [
        "held out: 302 of 2,718 tokens (11.1%), the last of 9 documents"
    ]
    article = [Document("word " * 300, f"z#{n}", "z") for n in range(9)]
    tokens = split(tmp_path / "long", [*short, *article])
    said, warning = held_out_lines(tokens, 0.1, 18)
    assert said == "held out: 2,718 of 5,436 tokens (50.0%), the last 9 of 18 documents"
    assert warning.startswith("warning: 5.0 times what tokenize.validation_fraction asks for")
    assert "z, held out whole, has 2,718 tokens" in warning


def texts_of(words: dict[str, int]) -> list[Document]:
    """Documents of so many words, each a token."""
    return [Document(f" {name}" * n, f"{name}.txt:1", f"{name}.txt:1") for name, n in words.items()]


@pytest.mark.parametrize("end_of_text", [True, False])
@pytest.mark.parametrize(
    ("words", "parted", "said"),
    [
        ({"red": 900, "blue": 900, "cat": 2000}, "cat", "it is parted, since whole it would hold"),
        ({"red": 900, "cat": 2000, "blue": 50}, "cat", "cat.txt:1 and the last 1 document; it is"),
        ({"cat": 2000, "red": 50, "blue": 20}, "cat", "cat.txt:1 and the last 2 documents; it is"),
        ({"red": 900, "blue": 900, "cat": 390}, None, "the last of 3 documents"),  # 17.8%
        ({"red": 900, "blue": 900, "cat": 460}, "cat", "whole it would hold out 20.4%"),
    ],
)
def test_a_document_far_longer_than_the_share_is_parted(
    tmp_path: Path, words: dict[str, int], parted: str | None, said: str, end_of_text: bool
) -> None:
    """The one at which the held-out part begins; what is held out is not in the training part."""
    documents = texts_of(words)
    tokens = split(tmp_path / "tokens", documents, 0.1, end_of_text)
    (line,) = held_out_lines(tokens, 0.1, len(tokens.documents))
    assert said in line
    found = tokens.documents
    if parted is None:
        assert found.id.tolist() == [document.id for document in documents]
        assert checksum_of_parted(tokens.tokens, found, ENCODING) is None
        return
    assert 0.1 <= len(tokens.held_out) / len(tokens.tokens) < 0.101
    names = [one.id for one in documents]
    place = names.index(f"{parted}.txt:1")
    names[place : place + 1] = [f"{parted}.txt:1 [training]", f"{parted}.txt:1 [held out]"]
    assert found.id.tolist() == names
    assert found.held_out.tolist() == [n > place for n in range(len(names))]
    assert found.tokens.sum() == sum(words.values()) + end_of_text * len(found)
    ends = tokens.tokens == N_VOCAB - 1
    assert ENCODING.decode(tokens.tokens[~ends]) == "".join(one.text for one in documents)
    assert ends[found.tokens.cumsum() - 1].all() == end_of_text
    whole = hashlib.sha256(documents[place].text.encode()).hexdigest()
    assert checksum_of_parted(tokens.tokens, found, ENCODING) == whole


def test_statistics_count_what_numpy_counts(tmp_path: Path) -> None:
    tokens = write(tmp_path / "tokens")
    counts = count_tokens(tokens.tokens, N_VOCAB)
    found = describe(tokens, counts, tensor.tables(tmp_path / "tokens", "tokens", "bytes"))
    assert found["tokens"] == len(tokens.tokens)
    assert found["unique_tokens"] == len(np.unique(tokens.tokens))
    assert found["train_tokens"] + found["validation_tokens"] == found["tokens"]
    assert found["tokens_per_document_max"] == tokens.documents.tokens.max()
    curve = rank_frequency(counts, gpt2_encoding())
    assert curve["count"].is_monotonic_decreasing
    assert curve["rank"].iloc[-1] == found["unique_tokens"]
    cat = curve[curve.text == " cat"].iloc[0]
    assert cat["count"] == (tokens.tokens == cat.token).sum() == 3


def test_the_seal_covers_all_that_is_written(tmp_path: Path) -> None:
    write(tmp_path / "tokens")
    assert {file.name for file in (tmp_path / "tokens").iterdir()} == {*tensor.FILES, SUMS}
    (tmp_path / "tokens/README.md").write_text("mine")
    tensor.read(tmp_path / "tokens")


def joined(folder: Path, parts: list[list[Document]], fraction: float) -> tensor.TokenTensor:
    """The parts, each in a shard of its own."""
    shards = [folder / f"shard{number}" for number in range(len(parts))]
    for shard, part in zip(shards, parts, strict=True):
        tensor.write_shard(encode_documents(part, ENCODING, end_of_text=True), shard)
    tensor.join(shards, folder / "joined", N_VOCAB, fraction)
    return tensor.read(folder / "joined")


@pytest.mark.parametrize("cuts", [[], [1], [2], [1, 2, 3], [0, 2, 2, 4]])  # some empty
@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.45, 0.6])
def test_shards_read_as_the_one_file(tmp_path: Path, cuts: list[int], fraction: float) -> None:
    whole = write(tmp_path / "whole", fraction)
    ends = [0, *cuts, len(DOCUMENTS)]
    parts = [DOCUMENTS[begin:end] for begin, end in pairwise(ends)]
    found = joined(tmp_path, parts, fraction)
    assert (len(found.tokens), found.n_train) == (len(whole.tokens), whole.n_train)
    for name in ("tokens", "train", "held_out"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
    held_out = whole.documents[whole.documents.held_out].reset_index(drop=True)
    pd.testing.assert_frame_equal(found.documents, held_out)
    lengths = [
        pd.concat(tensor.tables(tmp_path / name, "tokens", "bytes"), ignore_index=True)
        for name in ("joined", "whole")
    ]
    pd.testing.assert_frame_equal(*lengths)
    counts = [count_tokens(tokens.tokens, N_VOCAB) for tokens in (found, whole)]
    described = [
        describe(one, number, tensor.tables(tmp_path / name, "tokens", "bytes"))
        for one, number, name in zip((found, whole), counts, ("joined", "whole"), strict=True)
    ]
    assert described[0] == described[1]
    for name, q in (("median", 50), ("95_percent", 95)):
        expected = np.percentile(lengths[1].tokens, q)
        assert described[0][f"tokens_per_document_{name}"] == expected
    # What a report says of them, and what counting reaches.
    assert counted(found, None) == counted(whole, None) != counted(whole, 2)
    corpora = [_corpus(t, n.tokens, "") for t, n in zip((found, whole), lengths, strict=True)]
    assert corpora[0].training.tolist() == corpora[1].training.tolist()
    assert corpora[0].excerpts == corpora[1].excerpts


def test_shards_are_mapped_and_none_may_be_missing(tmp_path: Path) -> None:
    tokens = joined(tmp_path, [DOCUMENTS[:1], DOCUMENTS[1:2], DOCUMENTS[2:]], 0.1)
    assert all(isinstance(part, np.memmap) for part in tokens.tokens.parts)
    (tmp_path / "joined/tokens-00002.npy").unlink()
    sums = tmp_path / "joined" / SUMS
    lines = sums.read_bytes().splitlines(keepends=True)
    sums.write_bytes(b"".join(line for line in lines if b"tokens-00002" not in line))
    with pytest.raises(UserError, match="joined is damaged"):
        tensor.read(tmp_path / "joined")


def test_shards_that_another_run_has_used_are_told_in_a_line(tmp_path: Path) -> None:
    shards = [tmp_path / "0", tmp_path / "1"]
    tensor.write_shard(encode_documents(DOCUMENTS, ENCODING, end_of_text=True), shards[0])
    with pytest.raises(UserError, match=r"1/documents.parquet is gone: another run.*command again"):
        tensor.join(shards, tmp_path / "joined", N_VOCAB, 0.1)
    assert [*tmp_path.iterdir()] == [shards[0]]


@pytest.mark.parametrize("left", ["LOCAL_RANK", "TORCHELASTIC_RUN_ID"])
def test_what_is_left_of_a_launcher_switches_no_check_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    """Of several processes the first one on a machine checks for all."""
    write(tmp_path / "tokens")
    with (tmp_path / "tokens/tokens.npy").open("r+b") as file:
        file.seek(-2, 2)
        file.write(b"no")
    monkeypatch.setenv(left, "1")
    with pytest.raises(UserError, match="tokens is damaged"):
        tensor.read(tmp_path / "tokens")
    second_of_two(monkeypatch)
    tensor.read(tmp_path / "tokens")


def test_there_may_be_more_shards_than_files_that_a_process_may_open(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")  # not on Windows
    parts = [[Document(f"one {n}", str(n), str(n))] for n in range(60)]
    joined(tmp_path, parts, 0.1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    there = len(os.listdir("/dev/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (there + 30, hard))
    try:
        tokens = tensor.read(tmp_path / "joined")
        again = tensor.read(tmp_path / "joined")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    np.testing.assert_array_equal(tokens.tokens, again.tokens)


@pytest.mark.parametrize("damage", ["cut", "shorter", "absent", "not parquet"])
def test_a_damaged_tensor_is_named(tmp_path: Path, damage: str) -> None:
    write(tmp_path / "tokens")
    file = tmp_path / "tokens" / "tokens.npy"
    match damage:
        case "cut":
            file.write_bytes(file.read_bytes()[:-2])
        case "shorter":
            np.save(file, np.zeros(3, dtype=np.uint16))
        case "absent":
            file.unlink()
        case "not parquet":
            (tmp_path / "tokens" / "documents.parquet").write_bytes(b"no")
    with pytest.raises(UserError, match=r"tokens is damaged: .*(tokens\.npy|documents\.parquet)"):
        tensor.read(tmp_path / "tokens")
