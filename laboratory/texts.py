"""What the runs read and what they are measured on: `python -m laboratory.texts SIZE`

All articles come in an order drawn by chance. The last ones are kept apart: the first half of
those are the development documents, on which all is chosen, the second the test documents. Of the
others each text is drawn by a seed of its own.

DVC knows of the setting alone, which has the tokens' checksum: of an output it would demand, in
each clone and at each `dvc checkout`, that it is there. A run makes the tokens where they are not.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from filelock import FileLock

from dropgpt.corpus import document
from dropgpt.corpus.document import Document
from dropgpt.errors import UserError
from dropgpt.machine.files import SUMS, sha256, write_json
from dropgpt.machine.inputs import compare
from dropgpt.params import Params, Tokenize
from dropgpt.randomness import generator
from dropgpt.tokens import tensor
from dropgpt.tokens.array import Array
from dropgpt.tokens.encoding import encode_documents, part_long
from dropgpt.tokens.tensor import TokenTensor
from dropgpt.tokens.vocabulary import gpt2_encoding
from laboratory.plan import Plan, Size, arguments
from stages import run

DOCUMENTS = Path("data/documents.parquet")
LOCK = Path(".dvc/tmp/laboratory-tokens.lock")
# The code that a run's numbers come from, in src/dropgpt.
CODE = [
    "errors.py",
    "params.py",
    "randomness.py",
    "evaluation.py",
    "machine",
    "tokens",
    "model",
    "training",
]
OWN_CODE = [f"laboratory/{name}.py" for name in ("plan", "texts", "run", "ensembles")]


@dataclass(frozen=True)
class Part:
    """Some documents, a row each as `TokenTensor` has them, and their tokens, side by side."""

    documents: pd.DataFrame
    tokens: Array


@dataclass(frozen=True)
class Texts:
    """The corpus in its parts."""

    corpus: TokenTensor

    @property
    def development(self) -> Part:
        """The first half of what is kept apart, by tokens, in whole articles."""
        return self._part(self._apart[: self._middle])

    @property
    def test(self) -> Part:
        """The second half."""
        return self._part(self._apart[self._middle :])

    def drawn(self, seed: int, tokens: int) -> TokenTensor:
        """A text of that many tokens or a document more, and the development documents held out.

        Articles in an order of the seed, each with all of its documents. Raises UserError where
        there are not so many tokens.
        """
        table = self.corpus.documents[~self.corpus.documents.held_out]
        sources = table.source.unique()
        order = generator(seed, "data order", "text").permutation(len(sources))
        place = pd.Series(order.argsort(), index=sources)
        table = table.iloc[np.argsort(place[table.source].to_numpy(), kind="stable")]
        before = table.tokens.cumsum() - table.tokens
        if table.tokens.sum() < tokens:
            raise UserError(
                f"laboratory: train.tokens is {tokens}, and there are {table.tokens.sum()} to "
                "draw from"
            )
        parts = [self._part(table.index[before < tokens].to_numpy()), self.development]
        return TokenTensor(
            np.concatenate([part.tokens for part in parts]),
            pd.concat([part.documents for part in parts], ignore_index=True),
            self.corpus.n_vocab,
        )

    @property
    def _apart(self) -> npt.NDArray[np.int64]:
        return np.flatnonzero(self.corpus.documents.held_out)

    @property
    def _middle(self) -> int:
        table = self.corpus.documents.iloc[self._apart]
        before = (table.tokens.cumsum() - table.tokens).to_numpy()
        begins = np.flatnonzero(table.source != table.source.shift())[1:]
        if not len(begins):
            raise UserError(
                "laboratory: what is kept apart is a single article, and development and test "
                "documents take one each: raise tokenize.validation_fraction in the plan"
            )
        return int(begins[np.abs(before[begins] - table.tokens.sum() / 2).argmin()])

    def _part(self, rows: npt.NDArray[np.int64]) -> Part:
        table = self.corpus.documents
        ends = table.tokens.cumsum().to_numpy()
        begins = ends - table.tokens.to_numpy()
        ids = [np.asarray(self.corpus.tokens[begins[row] : ends[row]]) for row in rows]
        return Part(table.iloc[rows].reset_index(drop=True), np.concatenate(ids))


def prepare(size: Size) -> None:
    """Write the setting, what all runs of a size depend on, the variants and the tokens.

    Raises UserError where something of it was edited meanwhile.
    """
    before = read(size)
    chosen = size.load()
    with _lock():
        _make_tokens(size, chosen)
        compare("laboratory", before, read(size), size.command)
        write_json(size.setting, setting(size, chosen))
        write_json(size.variants, chosen.variants)


def read(size: Size) -> dict[str, Any]:
    """What is made of what, under the names of the files in which it stands."""
    chosen = size.load()
    documents = {str(DOCUMENTS): sha256(DOCUMENTS)} if DOCUMENTS.is_file() else {}
    return (
        {
            f"{size.plan}: documents": chosen.documents,
            f"{size.plan}: base": chosen.base,
            f"{size.plan}: variants": chosen.variants,
        }
        | documents
        | code()
    )


def texts(size: Size) -> Texts:
    """Those that the setting speaks of. Raises UserError where it was made of something else."""
    chosen = size.load()
    try:
        named = json.loads(size.setting.read_text(encoding="utf-8"))
        sums = named["tokens"]
    except (OSError, ValueError, TypeError, KeyError):
        raise UserError(
            f"laboratory: {size.setting} is not there or torn: `{size.command}` makes it"
        ) from None
    with _lock():
        if not _whole(size, sums):
            _make_tokens(size, chosen)
    if setting(size, chosen) != named:
        raise UserError(
            f"laboratory: {DOCUMENTS}, the plan or the code is not what {size.setting} was made "
            f"of: `{size.command}` makes that anew"
        )
    return Texts(tensor.read(size.tokens))


def _whole(size: Size, sums: str) -> bool:
    """Whether the tokens are those whose checksums have this one, to the last bit."""
    try:
        tensor.read(size.tokens)
        return sha256(size.tokens / SUMS) == sums
    except (OSError, UserError):
        return False


def setting(size: Size, chosen: Plan) -> dict[str, Any]:
    """What every run depends on: the base's parameters, the tokens and the code, by checksum.

    One file for DVC to look at, and for a person to see what has changed since the runs.
    """
    return {
        "base": chosen.base,
        "tokens": sha256(size.tokens / SUMS),
        "code": code(),
    }


def _make_tokens(size: Size, chosen: Plan) -> None:
    settings = Tokenize.model_validate(chosen.base["tokenize"])
    encoding = gpt2_encoding(settings.vocabulary_size)
    found = [*document.read(DOCUMENTS)]
    if pattern := chosen.documents:
        found = [one for one in found if pattern.search(one.id)]
        if not found:
            raise UserError(
                f"{size.plan}: documents: no document of {DOCUMENTS} has an id that matches "
                f"{pattern.pattern}; null takes all"
            )
    documents = _shuffled(found)
    encoded = encode_documents(documents, encoding, settings.end_of_text)
    fraction = settings.validation_fraction
    parted = part_long(encoded, encoding, fraction)
    tensor.write(parted, size.tokens, encoding.n_vocab, fraction)


def _shuffled(documents: list[Document]) -> list[Document]:
    """By article: those of one source stay together, in their order."""
    sources = dict.fromkeys(one.source for one in documents)
    places = generator(0, "data order", "articles").permutation(len(sources))
    place = dict(zip(sources, places.tolist(), strict=True))
    return sorted(documents, key=lambda one: place[one.source])


def _lock() -> FileLock:
    """For as many workers as there are cores want the tokens at once."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(LOCK)


def code() -> dict[str, str]:
    """Of what a run's numbers come from, the Python files, by checksum."""
    rooms = [Path("src/dropgpt", name) for name in CODE]
    files = {*map(Path, OWN_CODE), *rooms, *(file for room in rooms for file in room.rglob("*"))}
    python = sorted(file for file in files if file.suffix == ".py" and file.is_file())
    return {file.as_posix(): sha256(file) for file in python}


def main(name: str) -> None:
    def laboratory(params: Params) -> None:
        prepare(Size(name))

    run(laboratory)


if __name__ == "__main__":
    main(*arguments("SIZE"))
