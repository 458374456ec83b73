"""Documents -> token tensor and vocabulary statistics."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

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

Array = npt.NDArray[np.uint16]

TOKENS = "tokens.npy"
# What `write` writes, and SHA256SUMS.
FILES = ("documents.parquet", provenance.FILE, TOKENS, "vocabulary.json")
# What `join` writes of each shard, instead of tokens.npy.
SHARD_FILES = ("documents-{:05}.parquet", "tokens-{:05}.npy")
AHEAD = 256  # documents whose text is in memory while threads encode it
NEAR = 1000  # tokens in which to look for white space at which to part a single document
PARTS = " [training]", " [held out]"  # what is added to its id then


class Joined:
    """Arrays (n_i,) that read as the one array (n,) of all, side by side, without a copy of them.

    Places are counted from 0 on; unlike in NumPy, one below 0 is an IndexError.
    """

    def __init__(self, parts: list[Array]) -> None:
        self.parts = parts
        self.ends = np.cumsum([len(part) for part in parts], dtype=np.int64)

    def __len__(self) -> int:
        return int(self.ends[-1])

    @overload
    def __getitem__(self, places: slice) -> Joined: ...

    @overload
    def __getitem__(self, places: npt.NDArray[np.int64]) -> Array: ...

    def __getitem__(self, places: slice | npt.NDArray[np.int64]) -> Joined | Array:
        """A part that follows on itself, as a view; or the tokens at `places`, of their shape."""
        if isinstance(places, slice):
            start, stop, step = places.indices(len(self))
            assert step == 1
            begins = self.ends - [len(part) for part in self.parts]
            return Joined(
                [
                    part[max(0, start - begin) : max(0, stop - begin)]
                    for begin, part in zip(begins.tolist(), self.parts, strict=True)
                ]
            )
        found = np.empty(places.shape, dtype=np.uint16)
        for row in np.ndindex(places.shape[:-1]) if places.size else ():
            asked = places[row]  # such as those of a window: nearly always all of one shard
            low, high = asked.min(), asked.max()
            if low < 0 or high >= len(self):
                raise IndexError(f"a place outside of 0..{len(self) - 1}")
            first, last = np.searchsorted(self.ends, [low, high], side="right").tolist()
            for number in range(first, last + 1):
                begin = self.ends[number] - len(self.parts[number])
                there = (begin <= asked) & (asked < self.ends[number])
                found[row][there] = self.parts[number][asked[there] - begin]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """For `np.asarray`: all in memory."""
        return np.concatenate(self.parts, dtype=dtype)


Tokens = Array | Joined


@dataclass(frozen=True)
class TokenTensor:
    """All tokens of a corpus in the order of its documents, and what part is held out.

    tokens     (n,) uint16, mapped from the file or the shards, not read into memory
    documents  one row a document: id, source, tokens, bytes and sha256 (of its text, UTF-8),
               held_out; of a tensor in shards, which may have millions, those held out alone
    n_vocab    of how many entries of GPT-2's vocabulary the tokens are; see `gpt2_encoding`
    """

    tokens: Tokens
    documents: pd.DataFrame
    n_vocab: int

    @property
    def n_train(self) -> int:
        held_out = self.documents.loc[self.documents.held_out, "tokens"]
        return len(self.tokens) - int(held_out.sum())

    @property
    def train(self) -> Tokens:
        return self.tokens[: self.n_train]

    @property
    def held_out(self) -> Array:
        return np.asarray(self.tokens[self.n_train :])


def encode(
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
            ordinary = encode_text(encoding, document.text)
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


def parted(
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


def write(
    encoded: Iterable[tuple[Document, Array]],
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
        table = _write_tokens(encoded, partial / TOKENS)
        table["held_out"] = _held_out(table, int(table.tokens.sum()), validation_fraction)
        _write_the_rest(partial, table, {"n_vocab": n_vocab}, made_from or {})


def write_shard(encoded: Iterable[tuple[Document, Array]], folder: Path) -> None:
    """Write a part of a corpus to `folder`, for `join`: tokens.npy, documents.parquet and sums."""
    with replacing(folder) as partial:
        partial.mkdir()
        table = _write_tokens(encoded, partial / TOKENS)
        table.to_parquet(partial / "documents.parquet", index=False)
        seal(partial)


def join(
    shards: list[Path],
    folder: Path,
    n_vocab: int,
    validation_fraction: float,
    made_from: Chain | None = None,
) -> None:
    """Make one token tensor of what `write_shard` wrote to the `shards`, each file as it is.

    The files of shard 0 are then tokens-00000.npy and documents-00000.parquet; documents.parquet
    has the documents that are held out, the same as if all of them stood in one file.
    """
    with replacing(folder) as partial:
        partial.mkdir()
        for number, shard in enumerate(shards):
            for name, source in zip(SHARD_FILES, ("documents.parquet", TOKENS), strict=True):
                _link(shard / source, partial / name.format(number))
        held_out = _held_out_of_shards(shards, validation_fraction)
        vocabulary = {"n_vocab": n_vocab, "shards": len(shards)}
        _write_the_rest(partial, held_out, vocabulary, made_from or {})


def in_memory(encoded: Iterable[tuple[Document, Array]]) -> tuple[Array, pd.DataFrame]:
    """The tokens of a small corpus side by side, and its table of documents."""
    parts: list[bytes] = []
    table = _table(encoded, parts.append)
    return np.frombuffer(b"".join(parts), dtype=np.uint16), table


def texts(ids: Array, documents: pd.DataFrame, encoding: tiktoken.Encoding) -> Iterator[str]:
    """The text of each of the `documents`, whose tokens are `ids` side by side."""
    for part in np.split(ids, documents.tokens.cumsum()[:-1]):
        yield encoding.decode_bytes(part[part != encoding.eot_token].tolist()).decode()


def read(folder: Path) -> TokenTensor:
    """Map the token tensor that `write` or `join` wrote.

    Raises UserError where it is missing or damaged.
    """
    names = _tokens_files(folder)
    others = [name for name in FILES if name != TOKENS]
    check_seal(folder, "tokenize", [*others, *names])
    arrays = [np.load(folder / name, mmap_mode="r") for name in names]
    return TokenTensor(
        arrays[0] if names == [TOKENS] else Joined(arrays),
        pd.read_parquet(folder / "documents.parquet"),
        json.loads((folder / "vocabulary.json").read_text())["n_vocab"],
    )


def lengths(folder: Path) -> pd.DataFrame:
    """Tokens and bytes of each document of the token tensor in `folder`, those of shards too."""
    names = [name.replace(".npy", ".parquet") for name in _tokens_files(folder)]
    tables = [
        pd.read_parquet(folder / name.replace("tokens", "documents"), columns=["tokens", "bytes"])
        for name in names
    ]
    return pd.concat(tables, ignore_index=True)


def _tokens_files(folder: Path) -> list[str]:
    """The names that the files with tokens should have."""
    with suppress(OSError, ValueError, AttributeError):  # damage, of which check_seal tells
        if shards := json.loads((folder / "vocabulary.json").read_text()).get("shards"):
            return [SHARD_FILES[1].format(number) for number in range(shards)]
    return [TOKENS]


def count(ids: Tokens, n_vocab: int) -> npt.NDArray[np.int64]:
    """How often each token of the vocabulary occurs, (n_vocab,)."""
    counts = np.zeros(n_vocab, dtype=np.int64)
    for start in range(0, len(ids), 1 << 20):  # bincount takes four times the memory of its part
        part = np.asarray(ids[start : start + (1 << 20)])
        counts += np.bincount(part, minlength=n_vocab)
    return counts


def held_out_lines(tensor: TokenTensor, fraction: float, n_documents: int) -> list[str]:
    """What is held out, for a reader, and a warning where it is over twice the `fraction` asked.

    `n_documents` are the documents in all.
    """
    documents = tensor.documents
    held_out = documents[documents.held_out]
    first = held_out.iloc[0]
    share = len(tensor.held_out) / len(tensor.tokens)
    which = f"the last {len(held_out):,} of {n_documents:,} documents"
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


def statistics(
    tensor: TokenTensor, counts: npt.NDArray[np.int64], documents: pd.DataFrame
) -> dict[str, Any]:
    """The corpus in numbers; `bytes_per_token` is UTF-8 bytes of text over all tokens.

    `counts` are those of `count`, `documents` the `lengths` of all of them.
    """
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
        "validation_documents": int(tensor.documents.held_out.sum()),
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


def _write_tokens(encoded: Iterable[tuple[Document, Array]], path: Path) -> pd.DataFrame:
    """Write the tokens to an .npy file as they come, and give the table of the documents."""
    with path.open("wb") as file:
        _write_npy_header(file, 0)
        table = _table(encoded, file.write)
        # NumPy leaves room in the header for a length that is known last.
        file.seek(0)
        _write_npy_header(file, int(table.tokens.sum()))
    return table


def _write_the_rest(
    folder: Path, documents: pd.DataFrame, vocabulary: dict[str, int], made_from: Chain
) -> None:
    documents.to_parquet(folder / "documents.parquet", index=False)
    write_json(folder / "vocabulary.json", vocabulary)
    provenance.write(made_from, folder)
    seal(folder)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # on another disk, or one that has no links
        shutil.copyfile(source, target)


def _table(
    encoded: Iterable[tuple[Document, Array]], write_tokens: Callable[[bytes], Any]
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


def _held_out_of_shards(shards: list[Path], fraction: float) -> pd.DataFrame:
    """The rows that `_held_out` would choose of the table of all; only the last shards are read."""
    total = sum(len(np.load(shard / TOKENS, mmap_mode="r")) for shard in shards)
    tail = pd.DataFrame()
    for shard in reversed(shards):
        tail = pd.concat([pd.read_parquet(shard / "documents.parquet"), tail], ignore_index=True)
        before = total - tail.tokens[::-1].cumsum()
        begins = tail.source != tail.source.shift(fill_value=tail.source[0])
        if (begins & (before <= (1 - fraction) * total)).any():
            break
    tail["held_out"] = _held_out(tail, total, fraction)
    return tail[tail.held_out].reset_index(drop=True)


def _held_out(table: pd.DataFrame, total: int, fraction: float) -> npt.NDArray[np.bool_]:
    """Which documents are held out: a tail that begins where an article does.

    Where all are of one article, where a document does. Of a corpus of `total` tokens, `table`
    has all documents, or the last ones.
    """
    before = (total - table.tokens[::-1].cumsum()[::-1]).to_numpy()
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
