"""The corpus in numbers, and in words for a reader."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import tiktoken

from dropgpt.errors import counted
from dropgpt.tokens.array import Tokens
from dropgpt.tokens.articles import PARTS
from dropgpt.tokens.tensor import TokenTensor


def count_tokens(ids: Tokens, n_vocab: int) -> npt.NDArray[np.int64]:
    """How often each token of the vocabulary occurs, (n_vocab,)."""
    counts = np.zeros(n_vocab, dtype=np.int64)
    for start in range(0, len(ids), 1 << 20):  # bincount takes four times the memory of its part
        part = np.asarray(ids[start : start + (1 << 20)])
        counts += np.bincount(part, minlength=n_vocab)
    return counts


def describe(
    tensor: TokenTensor, counts: npt.NDArray[np.int64], documents: Iterable[pd.DataFrame]
) -> dict[str, Any]:
    """The corpus in numbers; `bytes_per_token` is UTF-8 bytes of text over all tokens.

    `counts` are those of `count_tokens`, `documents` the tokens and bytes of all of them, of which
    one table at a time is in memory.
    """
    unique = int(np.count_nonzero(counts))
    n_bytes = 0
    of_length = pd.Series(dtype=np.int64)  # how many documents have so many tokens
    for table in documents:
        n_bytes += int(table.bytes.sum())
        of_length = of_length.add(table.tokens.value_counts(), fill_value=0)
    of_length = of_length.sort_index().astype(np.int64)
    return {
        "tokens": len(tensor.tokens),
        "unique_tokens": unique,
        "train_tokens": len(tensor.train),
        "validation_tokens": len(tensor.held_out),
        "vocabulary_share": unique / tensor.n_vocab,
        "bytes_per_token": n_bytes / len(tensor.tokens),
        "documents": int(of_length.sum()),
        "validation_documents": int(tensor.documents.held_out.sum()),
        "tokens_per_document_median": _quantile(of_length, 0.5),
        "tokens_per_document_95_percent": _quantile(of_length, 0.95),
        "tokens_per_document_max": int(of_length.index.max()),
    }


def _quantile(of_length: pd.Series, q: float) -> float:
    """As np.quantile has it of all documents; `of_length` says how many have each length."""
    ends = of_length.cumsum().to_numpy()
    place = q * (ends[-1] - 1)
    around = np.searchsorted(ends, [math.floor(place), math.ceil(place)], side="right")
    low, high = of_length.index[around].tolist()
    above = place - math.floor(place)
    return low + (high - low) * above if above < 0.5 else high - (high - low) * (1 - above)


def rank_frequency(counts: npt.NDArray[np.int64], encoding: tiktoken.Encoding) -> pd.DataFrame:
    """Zipf's curve: rank, count, token, text of the most frequent tokens, then ever fewer of them.

    The first 50 ranks are all there; the rest are evenly spaced on a logarithmic axis.
    """
    order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    spaced = np.geomspace(1, len(order), 200).round().astype(int)
    ranks = np.union1d(np.arange(1, min(50, len(order)) + 1), spaced)
    ids = order[ranks - 1]
    texts = [encoding.decode_single_token_bytes(int(i)).decode(errors="replace") for i in ids]
    return pd.DataFrame({"rank": ranks, "count": counts[ids], "token": ids, "text": texts})


def held_out_lines(tensor: TokenTensor, fraction: float | None, n_documents: int) -> list[str]:
    """What is held out, for a reader, and a warning where it is over twice the `fraction` asked.

    None: a split of its own was asked for. `n_documents` are the documents in all.
    """
    documents, held_out = tensor.documents, tensor.held_out_documents
    first = held_out.iloc[0]
    share = len(tensor.held_out) / len(tensor.tokens)
    last = f"last {len(held_out):,}" if len(held_out) > 1 else "last"
    which = f"the {last} of {counted(n_documents, 'document')}"
    if first.id.endswith(PARTS[1]):
        which = _parted(documents, first.id.removesuffix(PARTS[1]))
    tokens = f"{len(tensor.held_out):,} of {len(tensor.tokens):,} tokens"
    lines = [f"held out: {tokens} ({share:.1%}), {which}"]
    if fraction and share > 2 * fraction and not first.id.endswith(PARTS[1]):
        unit = "source" if documents.source.nunique() > 1 else "id"
        length = held_out.tokens[held_out[unit] == first[unit]].sum()
        lines.append(
            f"warning: {share / fraction:.1f} times what tokenize.validation_fraction asks for, "
            f"since {first[unit]}, held out whole, has {length:,} tokens; put it before the last "
            "ones in the order of names, or part it"
        )
    return lines


def _parted(documents: pd.DataFrame, name: str) -> str:
    """What is held out where the document of that name was parted."""
    begin = documents.tokens[documents.id == name + PARTS[0]].sum()
    after = int(documents.held_out.sum()) - 1
    if len(documents) == 2:
        return f"the end of {name}, the only document"
    share = (begin + documents.tokens[documents.held_out].sum()) / documents.tokens.sum()
    which = f"the end of {name}" + (f" and the last {counted(after, 'document')}" if after else "")
    return f"{which}; it is parted, since whole it would hold out {share:.1%}"


def copies_lines(copies: pd.DataFrame, documents: pd.DataFrame, what: str) -> list[str]:
    """A warning where some of `documents`, which are to be measured, are in the training part."""
    if copies.empty:
        return []
    return [
        f"warning: {len(copies):,} of {len(documents):,} {what}, {copies.bytes.sum():,} of "
        f"{documents.bytes.sum():,} bytes, stand word for word in the training part, too"
    ]
