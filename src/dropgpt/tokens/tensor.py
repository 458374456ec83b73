"""The token tensor of a corpus, on disk: one file, or one for each of many shards."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from dropgpt.errors import UserError
from dropgpt.machine import provenance, torchrun
from dropgpt.machine.files import check_seal, replacing, seal, write_json
from dropgpt.machine.provenance import Chain
from dropgpt.tokens import held_out
from dropgpt.tokens.array import Array, Joined, Tokens

if TYPE_CHECKING:
    from dropgpt.corpus.document import Document

Ids = TypeVar("Ids", Array, npt.NDArray[np.int64])  # of our vocabulary, or of any

TOKENS = "tokens.npy"
# What `write` writes, and SHA256SUMS.
FILES = ("documents.parquet", provenance.FILE, TOKENS, "vocabulary.json")
# What `join` writes of each shard, instead of tokens.npy.
SHARD_FILES = ("documents-{:05}.parquet", "tokens-{:05}.npy")


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
    def held_out_documents(self) -> pd.DataFrame:
        return self.documents[self.documents.held_out]

    @property
    def n_train(self) -> int:
        return len(self.tokens) - int(self.held_out_documents.tokens.sum())

    @property
    def train(self) -> Tokens:
        return self.tokens[: self.n_train]

    @property
    def held_out(self) -> Array:
        return np.asarray(self.tokens[self.n_train :])


def write(
    encoded: Iterable[tuple[Document, Array]],
    folder: Path,
    n_vocab: int,
    validation_fraction: float,
    made_from: Chain | None = None,
    last: int | None = None,
) -> None:
    """Write a token tensor to `folder`, and beside it what it is made from.

    The tokens go straight to the file; what stays in memory is a row a document. The last
    articles are held out, whole, and so many that they have at least `validation_fraction` of
    the tokens; or the `last` documents, where their number is given.
    """
    with replacing(folder) as partial:
        partial.mkdir()
        table = _write_tokens(encoded, partial / TOKENS)
        if last is None:
            table["held_out"] = held_out.chosen(table, int(table.tokens.sum()), validation_fraction)
        else:
            table["held_out"] = held_out.last(table, last)
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
    last: int | None = None,
) -> None:
    """Make one token tensor of what `write_shard` wrote to the `shards`, each file as it is.

    The files of shard 0 are then tokens-00000.npy and documents-00000.parquet; documents.parquet
    has the documents that are held out, the same as if all of them stood in one file: those of the
    `last` shards, where their number is given. Raises UserError where a shard is gone.
    """
    with replacing(folder) as partial:
        partial.mkdir()
        for number, shard in enumerate(shards):
            for name, source in zip(SHARD_FILES, ("documents.parquet", TOKENS), strict=True):
                _link(shard / source, partial / name.format(number))
        # From here on of the links: another run may let go of the shards.
        documents, tokens = (
            [partial / name.format(number) for number in range(len(shards))] for name in SHARD_FILES
        )
        total = sum(len(np.load(file, mmap_mode="r")) for file in tokens)
        tables = map(pd.read_parquet, reversed(documents))
        if last is None:
            rows = held_out.rows(tables, total, validation_fraction)
        else:
            rows = pd.concat([*islice(tables, last)][::-1], ignore_index=True)
            rows["held_out"] = True
            if rows.empty:
                raise UserError("data.held_out_split has no row with a text; name another split")
        vocabulary = {"n_vocab": n_vocab, "shards": len(shards)}
        _write_the_rest(partial, rows, vocabulary, made_from or {})


def in_memory(encoded: Iterable[tuple[Document, Ids]]) -> tuple[Ids, pd.DataFrame]:
    """The tokens of a small corpus side by side, of their own type, and its table of documents."""
    parts: list[Ids] = []
    table = _table(encoded, parts.append)
    return np.concatenate(parts), table


def read(folder: Path) -> TokenTensor:
    """Map the token tensor that `write` or `join` wrote.

    Raises UserError where it is missing or damaged.
    """
    names = _tokens_files(folder)
    others = [name for name in FILES if name != TOKENS]
    # Of the processes that torchrun has started here one is enough: without it none gets far.
    if torchrun.first_here():
        check_seal(folder, "tokenize", [*others, *names])
    _allow_open(len(names))
    arrays = [np.load(folder / name, mmap_mode="r") for name in names]
    return TokenTensor(
        arrays[0] if names == [TOKENS] else Joined(arrays),
        pd.read_parquet(folder / "documents.parquet"),
        json.loads((folder / "vocabulary.json").read_text())["n_vocab"],
    )


def tables(folder: Path, *columns: str) -> Iterator[pd.DataFrame]:
    """Columns of the table of all documents of the token tensor in `folder`, a table a shard."""
    for name in _tokens_files(folder):
        table = name.replace("tokens", "documents").replace(".npy", ".parquet")
        yield pd.read_parquet(folder / table, columns=list(columns))


def copies(folder: Path, others: pd.DataFrame) -> pd.DataFrame:
    """Those of `others` that stand, word for word, in the training part in `folder`, too.

    `others` is a table of documents: what is held out there, or others.
    """
    held_out = pd.read_parquet(folder / "documents.parquet", columns=["sha256", "held_out"])
    apart = held_out.sha256[held_out.held_out].value_counts()
    texts = {*others.sha256}
    there: Counter[str] = Counter()
    for table in tables(folder, "sha256"):
        there.update(table.sha256[table.sha256.isin(texts)])
    in_training = {text for text, times in there.items() if times > apart.get(text, 0)}
    return others[others.sha256.isin(in_training)]


def _tokens_files(folder: Path) -> list[str]:
    """The names that the files with tokens should have."""
    with suppress(OSError, ValueError, AttributeError):  # damage, of which check_seal tells
        if shards := json.loads((folder / "vocabulary.json").read_text()).get("shards"):
            return [SHARD_FILES[1].format(number) for number in range(shards)]
    return [TOKENS]


def _write_tokens(encoded: Iterable[tuple[Document, Array]], path: Path) -> pd.DataFrame:
    """Write the tokens to an .npy file as they come, and give the table of the documents."""
    with path.open("wb") as file:
        _write_npy_header(file, 0)
        table = _table(encoded, lambda ids: file.write(ids.astype("<u2").tobytes()))
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


def _allow_open(files: int) -> None:
    """Have the system let the process hold so many files more, as far as it does.

    A mapped file stays open, and of a large corpus there are more than the usual 1,024.
    """
    with suppress(ImportError, ValueError, OSError):  # Windows has no such limit
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = sys.maxsize if hard == resource.RLIM_INFINITY else hard
        if files > 1 and soft != resource.RLIM_INFINITY:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft + files, most), hard))


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise UserError(
            f"{source} is gone: another run has used these shards; give the command again"
        ) from None
    except OSError:  # on another disk, or one that has no links
        shutil.copyfile(source, target)


def _table(
    encoded: Iterable[tuple[Document, Ids]], write_tokens: Callable[[Ids], Any]
) -> pd.DataFrame:
    """Hand on the tokens of each document and keep a row of it.

    id, source, tokens (how many), bytes and sha256 (of its text).
    """
    rows = []
    for document, ids in encoded:
        write_tokens(ids)
        text = document.text.encode()
        checksum = hashlib.sha256(text).hexdigest()
        rows.append((document.id, document.source, len(ids), len(text), checksum))
    types = {"id": "str", "source": "str", "tokens": "int64", "bytes": "int64", "sha256": "str"}
    return pd.DataFrame(rows, columns=list(types)).astype(types)  # of no rows, too


def _write_npy_header(file: Any, length: int) -> None:
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<u2", "fortran_order": False, "shape": (length,)}
    )
