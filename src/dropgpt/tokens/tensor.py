"""Documents -> token tensor and vocabulary statistics."""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dropgpt.errors import UserError
from dropgpt.machine import provenance
from dropgpt.machine.files import check_seal, replacing, seal, write_json
from dropgpt.tokens.vocabulary import encode as encode_text

if TYPE_CHECKING:
    import tiktoken

    from dropgpt.corpus.document import Document
    from dropgpt.machine.provenance import Chain

Tokens = npt.NDArray[np.uint16]

# What `write` writes, and SHA256SUMS.
FILES = ("documents.parquet", provenance.FILE, "tokens.npy", "vocabulary.json")
AHEAD = 256  # documents whose text is in memory while threads encode it
NEAR = 1000  # tokens in which to look for white space at which to part a single document
PARTS = " [training]", " [held out]"  # what is added to its id then


@dataclass(frozen=True)
class TokenTensor:
    """All tokens of a corpus in the order of its documents, and what part is held out.

    tokens     (n,) uint16, mapped from the file, not read into memory
    documents  one row a document: id, source, tokens, bytes and sha256 (of its text, UTF-8),
               held_out
    n_vocab    of how many entries of GPT-2's vocabulary the tokens are; see `gpt2_encoding`
    """

    tokens: Tokens
    documents: pd.DataFrame
    n_vocab: int

    @property
    def n_train(self) -> int:
        return int(self.documents.loc[~self.documents.held_out, "tokens"].sum())

    @property
    def train(self) -> Tokens:
        return self.tokens[: self.n_train]

    @property
    def held_out(self) -> Tokens:
        return self.tokens[self.n_train :]


def encode(
    documents: Iterable[Document], encoding: tiktoken.Encoding, end_of_text: bool
) -> Iterator[tuple[Document, Tokens]]:
    """Each document with its tokens, closed by <|endoftext|> where `end_of_text` says so.

    Text that merely spells "<|endoftext|>" is encoded as ordinary text. While a document is in
    use, threads encode those that follow, on all cores.
    """
    closing = np.array([encoding.eot_token] if end_of_text else [], dtype=np.uint32)

    def ids(document: Document) -> Tokens:
        try:
            ordinary = encode_text(encoding, document.text)
        except ValueError as error:
            why = " ".join(str(error).split())
            raise UserError(f"document {document.id!r}: tiktoken cannot encode it: {why}") from None
        return np.concatenate([ordinary, closing]).astype(np.uint16)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        following: deque[tuple[Document, Future[Tokens]]] = deque()
        for document in documents:
            following.append((document, pool.submit(ids, document)))
            if len(following) > AHEAD:
                done, encoded = following.popleft()
                yield done, encoded.result()
        for done, encoded in following:
            yield done, encoded.result()


def parted(
    encoded: Iterable[tuple[Document, Tokens]], encoding: tiktoken.Encoding, fraction: float
) -> Iterator[tuple[Document, Tokens]]:
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


def _cut(tokens: Tokens, most: int, encoding: tiktoken.Encoding) -> int:
    """Where to part the tokens, `most` at most: before white space, else between characters."""
    whole = 0
    for cut in range(most, max(most - NEAR, 0), -1):
        before, after = map(encoding.decode_single_token_bytes, tokens[cut - 1 : cut + 1].tolist())
        if after[:1].isspace() and not before[-1:].isspace():
            return cut
        if not whole and after[0] & 0xC0 != 0x80:  # not in the middle of a character, in UTF-8
            whole = cut
    return whole


def write(
    encoded: Iterable[tuple[Document, Tokens]],
    folder: Path,
    n_vocab: int,
    validation_fraction: float,
    made_from: Chain | None = None,
) -> None:
    """Write a token tensor to `folder`, and beside it what it is made from.

    The tokens go straight to the file; what stays in memory is a row a document. The last
    articles are held out, whole, and so many that they have at least `validation_fraction` of
    the tokens.
    """
    with replacing(folder) as partial:
        partial.mkdir()
        with (partial / "tokens.npy").open("wb") as file:
            _write_npy_header(file, 0)
            table = _table(encoded, file.write)
            # NumPy leaves room in the header for a length that is known last.
            file.seek(0)
            _write_npy_header(file, int(table.tokens.sum()))
        table["held_out"] = _held_out(table, validation_fraction)
        table.to_parquet(partial / "documents.parquet", index=False)
        write_json(partial / "vocabulary.json", {"n_vocab": n_vocab})
        provenance.write(made_from or {}, partial)
        seal(partial)


def in_memory(encoded: Iterable[tuple[Document, Tokens]]) -> tuple[Tokens, pd.DataFrame]:
    """The tokens of a small corpus side by side, and its table of documents."""
    parts: list[bytes] = []
    table = _table(encoded, parts.append)
    return np.frombuffer(b"".join(parts), dtype=np.uint16), table


def texts(ids: Tokens, documents: pd.DataFrame, encoding: tiktoken.Encoding) -> Iterator[str]:
    """The text of each of the `documents`, whose tokens are `ids` side by side."""
    for part in np.split(ids, documents.tokens.cumsum()[:-1]):
        yield encoding.decode_bytes(part[part != encoding.eot_token].tolist()).decode()


def read(folder: Path) -> TokenTensor:
    """Map the token tensor that `write` wrote. Raises UserError where it is missing or damaged."""
    check_seal(folder, "tokenize", FILES)
    return TokenTensor(
        np.load(folder / "tokens.npy", mmap_mode="r"),
        pd.read_parquet(folder / "documents.parquet"),
        json.loads((folder / "vocabulary.json").read_text())["n_vocab"],
    )


def count(ids: Tokens, n_vocab: int) -> npt.NDArray[np.int64]:
    """How often each token of the vocabulary occurs, (n_vocab,)."""
    counts = np.zeros(n_vocab, dtype=np.int64)
    for start in range(0, len(ids), 1 << 20):  # bincount takes four times the memory of its part
        counts += np.bincount(ids[start : start + (1 << 20)], minlength=n_vocab)
    return counts


def held_out_lines(tensor: TokenTensor, fraction: float) -> list[str]:
    """What is held out, for a reader, and a warning where it is over twice the `fraction` asked."""
    documents = tensor.documents
    held_out = documents[documents.held_out]
    first = held_out.iloc[0]
    share = len(tensor.held_out) / len(tensor.tokens)
    which = f"the last {len(held_out):,} of {len(documents):,} documents"
    if first.id.endswith(PARTS[1]):
        which = f"the end of {first.source}, the only document"
    tokens = f"{len(tensor.held_out):,} of {len(tensor.tokens):,} tokens"
    lines = [f"held out: {tokens} ({share:.1%}), {which}"]
    if share > 2 * fraction:
        unit = "source" if documents.source.nunique() > 1 else "id"
        length = held_out.tokens[held_out[unit] == first[unit]].sum()
        lines.append(
            f"warning: {share / fraction:.1f} times what tokenize.validation_fraction asks for, "
            f"since {first[unit]}, held out whole, has {length:,} tokens; put it before the last "
            "ones in the order of names, or part it"
        )
    return lines


def statistics(tensor: TokenTensor, counts: npt.NDArray[np.int64]) -> dict[str, Any]:
    """The corpus in numbers; `bytes_per_token` is UTF-8 bytes of text over all tokens."""
    documents = tensor.documents
    unique = int(np.count_nonzero(counts))
    median, high = np.percentile(documents.tokens, [50, 95])
    return {
        "tokens": len(tensor.tokens),
        "unique_tokens": unique,
        "train_tokens": len(tensor.train),
        "validation_tokens": len(tensor.held_out),
        "vocabulary_share": unique / tensor.n_vocab,
        "bytes_per_token": float(documents.bytes.sum() / len(tensor.tokens)),
        "documents": len(documents),
        "validation_documents": int(documents.held_out.sum()),
        "tokens_per_document_median": float(median),
        "tokens_per_document_95_percent": float(high),
        "tokens_per_document_max": int(documents.tokens.max()),
    }


def rank_frequency(
    counts: npt.NDArray[np.int64], encoding: tiktoken.Encoding, points: int = 200
) -> pd.DataFrame:
    """Zipf's curve: rank, count, token, text of the most frequent tokens, then ever fewer of them.

    The first 50 ranks are all there; the rest are evenly spaced on a logarithmic axis.
    """
    order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    spaced = np.geomspace(1, len(order), points).round().astype(int)
    ranks = np.union1d(np.arange(1, min(50, len(order)) + 1), spaced)
    ids = order[ranks - 1]
    texts = [encoding.decode_single_token_bytes(int(i)).decode(errors="replace") for i in ids]
    return pd.DataFrame({"rank": ranks, "count": counts[ids], "token": ids, "text": texts})


def _table(
    encoded: Iterable[tuple[Document, Tokens]], write_tokens: Callable[[bytes], Any]
) -> pd.DataFrame:
    """Hand on the tokens of each document and keep a row of it.

    id, source, tokens (how many), bytes and sha256 (of its text).
    """
    rows = []
    for document, ids in encoded:
        write_tokens(ids.astype("<u2").tobytes())
        text = document.text.encode()
        checksum = hashlib.sha256(text).hexdigest()
        rows.append((document.id, document.source, len(ids), len(text), checksum))
    return pd.DataFrame(rows, columns=["id", "source", "tokens", "bytes", "sha256"])


def _held_out(table: pd.DataFrame, fraction: float) -> npt.NDArray[np.bool_]:
    """Which documents are held out: a tail that begins where an article does.

    Where all are of one article, where a document does.
    """
    total = int(table.tokens.sum())
    before = (table.tokens.cumsum() - table.tokens).to_numpy()
    begins, what = (table.source != table.source.shift()).to_numpy(), "article"
    if begins.sum() == 1 < len(table):
        begins, what = np.ones(len(table), dtype=bool), "document"
    possible = np.flatnonzero(begins & (before > 0))
    fitting = possible[before[possible] <= (1 - fraction) * total]
    if not len(fitting):
        advice = "take more text"
        if len(possible):
            most = 1 - before[possible[0]] / total
            advice = f"lower it to {0.995 * most:.3g}, or take more documents"  # rounded down
        raise UserError(
            f"params.yaml: tokenize.validation_fraction {fraction} holds out every {what} of a "
            f"corpus of {int(begins.sum())}, of {total} tokens; {advice}"
        )
    return np.arange(len(table)) >= fitting[-1]


def _write_npy_header(file: Any, length: int) -> None:
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<u2", "fortran_order": False, "shape": (length,)}
    )
