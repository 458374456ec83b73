"""Documents -> each with its tokens, and back."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice

import numpy as np
import pandas as pd
import tiktoken

from dropgpt.corpus.document import Document
from dropgpt.errors import UserError
from dropgpt.tokens.array import Array
from dropgpt.tokens.vocabulary import encode

AHEAD = 256  # documents whose text is in memory while threads encode it
NEAR = 1000  # tokens in which to look for white space at which to part a single document
PARTS = " [training]", " [held out]"  # what is added to its id then


def encode_documents(
    documents: Iterable[Document],
    encoding: tiktoken.Encoding,
    end_of_text: bool,
    threads: int | None = None,
) -> Iterator[tuple[Document, Array]]:
    """Each document with its tokens, closed by <|endoftext|> where `end_of_text` says so.

    Text that merely spells "<|endoftext|>" is encoded as ordinary text. While a document is in
    use, `threads` encode those that follow; None: one on each core.
    """
    closing = np.array([encoding.eot_token] if end_of_text else [], dtype=np.uint32)

    def ids(document: Document) -> Array:
        try:
            ordinary = encode(encoding, document.text)
        except ValueError as error:
            why = " ".join(str(error).split())
            raise UserError(f"document {document.id!r}: tiktoken cannot encode it: {why}") from None
        return np.concatenate([ordinary, closing]).astype(np.uint16)

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        following: deque[tuple[Document, Future[Array]]] = deque()
        for document in documents:
            following.append((document, pool.submit(ids, document)))
            if len(following) > AHEAD:
                done, encoded = following.popleft()
                yield done, encoded.result()
        for done, encoded in following:
            yield done, encoded.result()


def part_single(
    encoded: Iterable[tuple[Document, Array]], encoding: tiktoken.Encoding, fraction: float
) -> Iterator[tuple[Document, Array]]:
    """The same; of a single document, two: one to train on and one to hold out.

    The second has at least `fraction` of the tokens and begins at white space, unless there is
    none near. The two texts make up the whole. A text of one token is left as it is.
    """
    rest = iter(encoded)
    first = list(islice(rest, 2))
    if len(first) != 1:
        yield from chain(first, rest)
        return
    [(document, ids)] = first
    closing = ids[-1:][ids[-1:] == encoding.eot_token]  # one token or none
    tokens = ids[: len(ids) - len(closing)]
    # Both parts are closed, so that the second may be nearly as long as this says.
    most = int((1 - fraction) * (len(tokens) + 2 * len(closing))) - len(closing)
    cut = _cut(tokens, min(most, len(tokens) - 1), encoding)
    if not cut:
        yield from first
        return
    for name, part in zip(PARTS, (tokens[:cut], tokens[cut:]), strict=True):
        text = encoding.decode_bytes(part.tolist()).decode()
        yield document._replace(text=text, id=document.id + name), np.concatenate([part, closing])


def _cut(tokens: Array, most: int, encoding: tiktoken.Encoding) -> int:
    """Where to part the tokens, `most` at most: before white space, else between characters."""
    whole = 0
    for cut in range(most, max(most - NEAR, 0), -1):
        before, after = map(encoding.decode_single_token_bytes, tokens[cut - 1 : cut + 1].tolist())
        if after[:1].isspace() and not before[-1:].isspace():
            return cut
        if not whole and after[0] & 0xC0 != 0x80:  # not in the middle of a character, in UTF-8
            whole = cut
    return whole


def decode_documents(
    ids: Array, documents: pd.DataFrame, encoding: tiktoken.Encoding
) -> Iterator[str]:
    """The text of each of the `documents`, whose tokens are `ids` side by side."""
    for part in np.split(ids, documents.tokens.cumsum()[:-1]):
        yield encoding.decode_bytes(part[part != encoding.eot_token].tolist()).decode()
