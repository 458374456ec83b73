"""Whether the tokenizer files of a model's folder are GPT-2's."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from dropgpt.errors import UserError, check_here, of_machine
from dropgpt.tokens.vocabulary import END_OF_TEXT, N_VOCAB, entries, merges


class BPE(BaseModel):
    """Which tokens there are; merges are "a b" or ["a", "b"]."""

    vocab: dict[str, int]
    merges: list[str | list[str]]
    dropout: None = None
    continuing_subword_prefix: Literal["", None] = None
    end_of_word_suffix: Literal["", None] = None


class ByteLevel(BaseModel):
    """How a text is parted before that."""

    type: Literal["ByteLevel"]
    add_prefix_space: Literal[False]
    use_regex: Literal[True] = True


class Tokenizer(BaseModel):
    """What of a tokenizer.json says which tokens a text has, where it may be GPT-2's."""

    normalizer: None = None
    pre_tokenizer: ByteLevel
    model: BPE


def check_tokenizer(folder: Path, n_vocab: int) -> None:
    """Raise UserError, naming the file, where a vocabulary or merges are not GPT-2's first ones.

    A folder that has none is taken to be GPT-2's if it has the size of it.
    """
    vocabulary, pairs = entries(n_vocab), merges(n_vocab)
    found: dict[Path, bool] = {}
    if (path := folder / "vocab.json").exists():
        found[path] = json_object(path) == vocabulary
    if (path := folder / "merges.txt").exists():
        lines = [line for line in text_of(path).splitlines() if line]
        found[path] = [line for line in lines if not line.startswith("#version")] == pairs
    if (path := folder / "tokenizer.json").exists():
        try:
            theirs = Tokenizer.model_validate(json_object(path)).model
        except ValidationError:
            found[path] = False
        else:
            their_entries = {END_OF_TEXT: n_vocab - 1} | theirs.vocab
            their_pairs = [m if isinstance(m, str) else " ".join(m) for m in theirs.merges]
            found[path] = their_entries == vocabulary and their_pairs == pairs
    which = "GPT-2's tokenizer"
    if n_vocab != N_VOCAB:
        which = f"the first {n_vocab - 1} entries of {which} and {END_OF_TEXT}"
    if not found and n_vocab != N_VOCAB:
        raise UserError(
            f"{folder}: vocab_size is {n_vocab} in config.json, and no vocab.json says that its "
            f"tokens are {which}; copy the tokenizer's files there, too"
        )
    for path, is_gpt2s in found.items():
        if not is_gpt2s:
            raise UserError(f"{path}: not {which}: a model of other tokens cannot be measured here")


def json_object(path: Path) -> Any:
    """The object in a file. Raises UserError where there is none."""
    try:
        value = json.loads(text_of(path))
    except (ValueError, RecursionError) as error:  # the latter of brackets within brackets
        raise UserError(f"{path}: not JSON: {error}; copy the folder again") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a JSON object; copy the folder again")
    return value


def text_of(path: Path) -> str:
    try:
        check_here(path)
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        if of_machine(error):
            raise
        raise UserError(f"{path}: not to be read: {error}; copy the folder again") from None
