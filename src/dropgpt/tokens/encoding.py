"""Documents -> each with its tokens, and back."""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pandas as pd
import tiktoken

from dropgpt.corpus.document import Document
from dropgpt.errors import UserError
from dropgpt.machine import cores
from dropgpt.tokens.array import Array, Tokens
from dropgpt.tokens.articles import PARTS
from dropgpt.tokens.vocabulary import encode

AHEAD = 256  # documents whose text is in memory while threads encode it
NEAR = 1000  # tokens in which to look for white space at which to part a document


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

    with ThreadPoolExecutor(threads or cores.number()) as pool:
        following: deque[tuple[Document, Future[Array]]] = deque()
        for document in documents:
            following.append((document, pool.submit(ids, document)))
            if len(following) > AHEAD:
                done, encoded = following.popleft()
                yield done, encoded.result()
        for done, encoded in following:
            yield done, encoded.result()


def part_long(
    encoded: Iterable[tuple[Document, Array]], encoding: tiktoken.Encoding, fraction: float
) -> Iterator[tuple[Document, Array]]:
    """The same; a document that is too long to be held out whole is parted into two.

    It is the one in which the last `fraction` of the tokens begins, if whole it would hold out
    over twice as many, or is the only one. Its second part begins at white space, unless there is
    none near, and with what follows it has at least `fraction` of the tokens. The two texts make
    up the whole. In memory are the documents that may be held out.
    """
    tail: deque[tuple[Document, Array]] = deque()
    before = after = 0  # tokens, before the tail and in it
    for document, ids in encoded:
        tail.append((document, ids))
        after += len(ids)
        # The last one stays, also where it has no tokens or rounding makes 1 of 1 - fraction.
        while len(tail) > 1 and before + len(tail[0][1]) <= (1 - fraction) * (before + after):
            before += len(tail[0][1])
            after -= len(tail[0][1])
            yield tail.popleft()
    if after > 2 * fraction * (before + after) or (len(tail) == 1 and not before):
        document, ids = tail.popleft()
        yield from _parted(document, ids, before, before + after, encoding, fraction)
    yield from tail


def _parted(
    document: Document,
    ids: Array,
    before: int,
    total: int,
    encoding: tiktoken.Encoding,
    fraction: float,
) -> Iterator[tuple[Document, Array]]:
    """A document in two, at a cut behind which there is at least `fraction` of the corpus.

    `before` tokens of a corpus of `total` stand before it. Whole where it cannot be parted so, as
    a text of one token.
    """
    closing = ids[-1:][ids[-1:] == encoding.eot_token]  # one token or none
    tokens = ids[: len(ids) - len(closing)]
    # Both parts are closed, so that the corpus has a token more.
    most = int((1 - fraction) * (total + len(closing))) - before - len(closing)
    cut = _cut(tokens, min(most, len(tokens) - 1), encoding)
    if not cut:
        yield document, ids
        return
    for name, part in zip(PARTS, (tokens[:cut], tokens[cut:]), strict=True):
        text = encoding.decode_bytes(part.tolist()).decode()
        one = Document(text, document.id + name, document.source + name)
        yield one, np.concatenate([part, closing])


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


def checksum_of_parted(
    ids: Tokens, documents: pd.DataFrame, encoding: tiktoken.Encoding
) -> str | None:
    """sha256 of the whole text that `part_long` has parted; None where it parted none."""
    parts = documents[documents.id.str.endswith(PARTS)]
    if parts.empty:
        return None
    begin = int(documents.tokens[: parts.index[0]].sum())
    theirs = np.asarray(ids[begin : begin + int(parts.tokens.sum())])
    text = "".join(decode_documents(theirs, parts, encoding))
    return hashlib.sha256(text.encode()).hexdigest()
