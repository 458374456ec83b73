"""What a measurement needs of a language model, whoever made it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from dropgpt.corpus.document import Document
from dropgpt.evaluation import Nats, gpt_nats
from dropgpt.model.gpt import GPT
from dropgpt.tokens.encoding import encode_documents
from dropgpt.tokens.vocabulary import END_OF_TEXT, N_VOCAB, gpt2_encoding

Encoded = Iterator[tuple[Document, npt.NDArray[np.int64]]]


@dataclass(frozen=True)
class LanguageModel:
    """A language model with its tokenizer, in eval mode, in float32.

    nats          how its losses are found
    n_ctx         most tokens that it reads at once; None: it has no limit
    longest       most tokens of a window where nobody says how many
    begin         the token before a document's first one, and how it is written
    encode        each document with its tokens, closed by the end of text where the flag says so
    decode        the text that so many tokens stand for, special ones left out
    n_vocab       the width of its logits
    whole_logits  whether the logits of a batch are in memory at once
    """

    nats: Nats
    n_ctx: int | None
    longest: int
    begin: tuple[int, str]
    encode: Callable[[Iterable[Document], bool], Encoded]
    decode: Callable[[list[int]], str]
    tokenizer: str
    n_vocab: int
    made_by: dict[str, Any]
    whole_logits: bool = False
    packages: tuple[str, ...] = ("torch", "tiktoken")  # that compute it


def of_gpt(model: GPT, n_entries: int, known: dict[str, Any]) -> LanguageModel:
    """Of our own class, whose tokens are the first `n_entries` of GPT-2's."""
    encoding = gpt2_encoding(n_entries)

    def encode(documents: Iterable[Document], end_of_text: bool) -> Encoded:
        for document, ids in encode_documents(documents, encoding, end_of_text):
            yield document, ids.astype(np.int64)

    return LanguageModel(
        nats=partial(gpt_nats, model),
        n_ctx=model.config.n_ctx,
        longest=model.config.n_ctx,
        begin=(encoding.eot_token, END_OF_TEXT),
        encode=encode,
        decode=lambda ids: encoding.decode([i for i in ids if i != encoding.eot_token]),
        tokenizer="GPT-2" if n_entries == N_VOCAB else f"GPT-2, its first {n_entries - 1} entries",
        n_vocab=model.n_vocab,
        made_by=known,
    )
