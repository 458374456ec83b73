"""What all runs share, their tokens and their setting: `python -m laboratory.first.prepare`

Articles come in an order drawn by chance, so that what is held out is of the same kind as what
is read, also where only the first tokens are read.

DVC knows of the setting alone, which has the tokens' checksum: of an output it would demand, in
each clone and at each `dvc checkout`, that it is there. A run makes the tokens where they are not.
"""

import json
import re
from pathlib import Path
from typing import Any

from filelock import FileLock

from dropgpt.corpus import document
from dropgpt.corpus.document import Document
from dropgpt.errors import UserError
from dropgpt.machine.files import SUMS, sha256, write_json
from dropgpt.params import Params, Tokenize
from dropgpt.randomness import generator
from dropgpt.tokens import tensor
from dropgpt.tokens.encoding import encode_documents, part_long
from dropgpt.tokens.tensor import TokenTensor
from dropgpt.tokens.vocabulary import gpt2_encoding
from laboratory.first import plan
from laboratory.first.plan import SETTING, TOKENS, Plan
from stages import run

DOCUMENTS = Path("data/documents.parquet")
LOCK = Path(".dvc/tmp/laboratory-first-tokens.lock")
# The code that a run's numbers come from.
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


def prepare(params: Params) -> None:
    chosen = plan.load()
    with _lock():
        make_tokens(chosen)
        write_json(SETTING, setting(chosen))


def prepared_tokens(chosen: Plan) -> TokenTensor:
    """Those that SETTING speaks of. Raises UserError where they are made of other documents."""
    named = json.loads(SETTING.read_text(encoding="utf-8"))["tokens"]
    with _lock():
        if not TOKENS.is_dir() or sha256(TOKENS / SUMS) != named:
            make_tokens(chosen)
    if sha256(TOKENS / SUMS) != named:
        raise UserError(
            f"laboratory: {DOCUMENTS} or the plan is not what {SETTING} was made of: "
            "`make results` makes that anew"
        )
    return tensor.read(TOKENS)


def make_tokens(chosen: Plan) -> None:
    settings = Tokenize.model_validate(chosen.base["tokenize"])
    encoding = gpt2_encoding(settings.vocabulary_size)
    pattern = re.compile(chosen.documents or "")
    documents = shuffled([one for one in document.read(DOCUMENTS) if pattern.search(one.id)])
    encoded = encode_documents(documents, encoding, settings.end_of_text)
    fraction = settings.validation_fraction
    parted = part_long(encoded, encoding, fraction)
    tensor.write(parted, TOKENS, encoding.n_vocab, fraction)


def _lock() -> FileLock:
    """For as many workers as there are cores want the tokens at once."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(LOCK)


def shuffled(documents: list[Document]) -> list[Document]:
    """By article: those of one source stay together, in their order."""
    sources = dict.fromkeys(one.source for one in documents)
    places = generator(0, "data order", "articles").permutation(len(sources))
    place = dict(zip(sources, places.tolist(), strict=True))
    return sorted(documents, key=lambda one: place[one.source])


def setting(chosen: Plan) -> dict[str, Any]:
    """What every run depends on: the base's parameters, the tokens and the code, by checksum.

    One file for DVC to look at, and for a person to see what has changed since the runs.
    """
    return {
        "base": chosen.base,
        "tokens": sha256(TOKENS / SUMS),
        "code": {file.as_posix(): sha256(file) for file in code_files()},
    }


def code_files() -> list[Path]:
    """Of what a run's numbers come from, the Python files."""
    rooms = [Path("src/dropgpt", name) for name in CODE]
    files = {
        Path("laboratory/first/run.py"),
        *rooms,
        *(file for room in rooms for file in room.rglob("*")),
    }
    return sorted(file for file in files if file.suffix == ".py")


if __name__ == "__main__":
    run(prepare)
