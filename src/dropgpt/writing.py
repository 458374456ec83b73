"""A model writes text: what `dropgpt write` and, from Python, `dropgpt.load` and `write` do."""

import codecs
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dropgpt.errors import UserError, explain
from dropgpt.generation import new_tokens
from dropgpt.machine.files import SUMS
from dropgpt.machine.repository import check_made
from dropgpt.model import artifact, hugging_face
from dropgpt.model.gpt import GPT
from dropgpt.params import Sample
from dropgpt.tokens.vocabulary import END_OF_TEXT, encode_prompt, gpt2_encoding

# What has another name here than in params.yaml.
SINGULAR = {"prompts": "prompt", "temperatures": "temperature"}


def load(folder: str | Path) -> GPT:
    """The model in any folder that `train`, or `save_pretrained` of transformers, wrote.

    In eval mode on the CPU. Raises UserError where there is none, where a folder that was made
    here is damaged, and where one from elsewhere holds what is not understood.
    """
    folder = Path(folder)
    if folder.is_file():
        raise UserError(f"{folder} is a file: name its folder")
    check_there(folder)
    sealed = (folder / SUMS).exists()  # as what is made here, wherever it was copied to
    return artifact.load(folder) if sealed else hugging_face.read(folder)


def check_there(folder: Path) -> None:
    """Raise UserError where there is no such folder, or it is just being made."""
    if not folder.is_dir():
        check_made(folder, str(folder))
        raise UserError(
            f"{folder}: no such folder; `dvc repro train` in the project's root makes a model in "
            f"{artifact.TRAINED}, and {artifact.HUB_PAGE} says how to fetch one from the hub"
        )


def write(
    model: GPT,
    prompt: str = "",
    temperature: float = 0.8,
    *,
    tokens: int = 200,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
) -> str:
    """The prompt and what the model writes after it.

    prompt       empty: the model begins a document; <|endoftext|> in it is the token
    temperature  0: always the likeliest token
    tokens       at most so many new ones; fewer where the model ends its text
    top_k        only the k likeliest tokens; None: all
    top_p        only the likeliest tokens that make up this probability; None: all
    seed         the same one draws the same text; None: a new one each time

    Raises UserError where a value is out of its range.
    """
    return "".join(pieces(model, settings(prompt, temperature, tokens, top_k, top_p, seed)))


def settings(
    prompt: str,
    temperature: float,
    tokens: int,
    top_k: int | None,
    top_p: float | None,
    seed: int | None,
) -> Sample:
    """The same as the section `sample` has it. Raises UserError where it cannot be."""
    try:
        return Sample(
            model=None,
            seed=secrets.randbits(32) if seed is None else seed,
            prompts=[prompt or END_OF_TEXT],
            temperatures=[temperature],
            tokens=tokens,
            top_k=top_k,
            top_p=top_p,
        )
    except ValidationError as error:
        raise UserError("; ".join(map(_explain, error.errors()))) from None


def pieces(model: GPT, params: Sample) -> Iterator[str]:
    """The prompt, then what the model writes after it, each character as soon as it is whole."""
    [prompt], [temperature] = params.prompts, params.temperatures
    encoding = gpt2_encoding(model.n_vocab)
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")  # as tiktoken decodes
    yield prompt.removeprefix(END_OF_TEXT)
    for token in new_tokens(model, encode_prompt(encoding, prompt), temperature, params):
        yield decoder.decode(encoding.decode_single_token_bytes(token))
    yield decoder.decode(b"", final=True)


def _explain(error: Any) -> str:
    """One mistake, under the name that it has here."""
    name = error["loc"][0]
    if error["type"] == "string_unicode":
        error |= {"type": "value_error", "ctx": {"error": "it is not UTF-8"}}
    return explain(Path("write"), error | {"loc": [SINGULAR.get(name, name)]})
