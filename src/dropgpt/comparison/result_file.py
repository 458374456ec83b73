"""A result as one JSON file, which any trainer can write: docs/results.md says how.

`python -m dropgpt.comparison.result_file` writes its JSON schema, docs/result.schema.json.
"""

import glob
import json
import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    StringConstraints,
    ValidationError,
)

from dropgpt.comparison.experiments import Run
from dropgpt.comparison.statistics import SEED, Groups
from dropgpt.errors import UserError, explain
from dropgpt.machine.files import write_json

SCHEMA = Path("docs/result.schema.json")
PAGE = "docs/results.md"
SHOWN = 3  # mistakes in a file that are told
FORMAT = "dropgpt result"
SCALARS = "text, a number, true, false or null"  # of made_by
NUMBER = re.compile(r"[0-9]+")
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{64}$"), AfterValidator(str.lower)]


def _whole(value: Any) -> Any:
    """8.0, as a table of pandas has it, as 8."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Count = Annotated[NonNegativeInt, BeforeValidator(_whole)]
Length = Annotated[PositiveInt, BeforeValidator(_whole)]


class _Part(BaseModel):
    """Nothing unknown, nothing missing, no value bent to fit its type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Document(_Part):
    """A held-out text and its loss."""

    id: str = Field(description="a name that no other document of the file has")
    sha256: Sha256 = Field(description="of the text in UTF-8, in hexadecimal")
    bytes: Count = Field(description="of the text in UTF-8")
    tokens: Count = Field(description="that were predicted, the end too if it was")
    nats: NonNegativeFloat = Field(description="the sum of the losses of these tokens")
    source: str | None = Field(
        None, description="the article that it is a part of", exclude_if=lambda one: one is None
    )


class Measured(_Part):
    """How it was measured.

    Files that differ in stride, across_documents or end_of_text are not compared.
    """

    stride: Length = Field(description="tokens between two windows over a document")
    context: Length = Field(description="most tokens in a window")
    across_documents: bool = Field(description="the context runs on from a document to the next")
    end_of_text: bool = Field(description="the token that ends a document is predicted, too")
    begins_with: str | None = Field(None, description="the token before a document's first one")
    tokenizer: str = Field(description="its name, or its kind")
    dtype: str = Field(description="of the arithmetic, such as float32")
    lost_bytes: Count = Field(0, description="of the texts that the tokens lack, at least")
    versions: dict[str, str] = Field({}, description="of the packages that computed it")


class Result(_Part):
    """The loss of one model on each of some texts, and what made it."""

    format: Literal["dropgpt result 1"]
    made_by: dict[str, str | int | FiniteFloat | bool | None] = Field(
        description="parameters by dotted keys, as train.seed and model.dropout"
    )
    measured: Measured
    documents: Annotated[list[Document], Field(min_length=1)]


def is_one(name: str) -> bool:
    """Whether what is to be compared is a result file: one that ends in .json, and is there."""
    return name.endswith(".json") and Path(name).is_file()


def holds_one(path: Path) -> bool:
    """Whether a file has a result, of any version of the format, or nothing yet."""
    try:
        content = path.read_text(encoding="utf-8-sig")
        return not content or json.loads(content)["format"].startswith(FORMAT)
    except (OSError, RecursionError, TypeError, ValueError, KeyError, AttributeError):
        return False


def read(name: str) -> Run:
    """The run in a result file, named as the file.

    Raises UserError, naming the file and what in it is not as the format has it.
    """
    path = Path(name)
    try:
        # Python writes infinity into JSON, as of nanoGPT's grad_clip.
        content = json.loads(path.read_text(encoding="utf-8-sig"), parse_constant=_constant)
        if not isinstance(content, dict):
            raise TypeError("it holds no JSON object")
        result = Result.model_validate(content)
        documents = pd.DataFrame(
            [{"source": d.id} | d.model_dump() for d in result.documents]  # an article of its own
        )
        name.encode()  # tables and JSON hold it
    except ValidationError as error:
        found = _mistakes(path, error)
        lines = found[:SHOWN]
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise UserError(f"{'; '.join(lines)}{more}; see {PAGE}") from None
    except (OSError, RecursionError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a result file: {error}; see {PAGE}") from None
    if not documents.id.is_unique:
        twice = documents.id[documents.id.duplicated()].iloc[0]
        raise UserError(f"{path}: two documents have the id {twice!r}: give each its own")
    if not documents.bytes.sum() or not documents.tokens.sum():
        raise UserError(f"{path}: its documents have no bytes or no tokens: nothing was measured")
    as_set = {
        "evaluate.stride": result.measured.stride,
        "evaluate.across_documents": result.measured.across_documents,
        "tokenize.end_of_text": result.measured.end_of_text,
    }
    notes = []
    if lost := result.measured.lost_bytes:
        notes.append(f"{name}: its tokens lack {lost:,} bytes of the texts, at least")
    made_by = {key: value for key, value in result.made_by.items() if (key, value) != (SEED, None)}
    seed = made_by.get(SEED)
    # Of a table of pandas, say, or of a command's words.
    if (isinstance(seed, float) and seed.is_integer()) or (
        isinstance(seed, str) and NUMBER.fullmatch(seed)
    ):
        made_by[SEED] = int(seed)
    return Run(name, made_by | as_set, documents, tuple(notes))


def _mistakes(path: Path, error: ValidationError) -> list[str]:
    """Each in a user's words."""
    found = {}
    for one in error.errors():
        place = one["loc"]
        if place[:1] == ("made_by",) and len(place) > 2:  # one of each type that it might have been
            place = place[:2]
            one = one | {"loc": place, "msg": f"Input should be {SCALARS}"}
        found[place] = explain(path, one)
    return [*found.values()]


def _constant(word: str) -> str | float:
    """Infinity and -Infinity, which may be parameters, as text; NaN as what it is."""
    return math.nan if word == "NaN" else word


def of(made_by: dict[str, Any], measured: Measured, documents: pd.DataFrame) -> Result:
    """A result; `documents` has the columns of `Document`, and others, left out.

    Of documents with one id, as of a file given twice, the later ones are numbered.
    """
    number = documents.groupby("id").cumcount() + 1
    ids = documents.id.where(number == 1, documents.id + " (" + number.astype(str) + ")")
    of_itself = documents.source == documents.id
    source = documents.source.astype(object).where(~of_itself, None)
    rows = documents[list(Document.model_fields)].assign(id=ids, source=source).to_dict("records")
    return Result.model_validate(
        {
            "format": "dropgpt result 1",
            "made_by": made_by,
            "measured": measured.model_dump(),
            "documents": rows,
        }
    )


def write(path: Path, result: Result) -> None:
    write_json(path, result.model_dump())


def expand(groups: list[str]) -> dict[str, list[str]]:
    """`name=glob` of each group -> the files that it matches, sorted, by its name.

    Raises UserError where one is no such pair or matches no result file, and where two groups
    have a file or a name in common.
    """
    found: dict[str, list[str]] = {}
    group_of: dict[Path, str] = {}
    for group in groups:
        label, files = _matched(group)
        places = [Path(file).resolve() for file in files]
        others = [label] if label in found else [group_of[one] for one in places if one in group_of]
        if others:
            raise UserError(f"--group {group} and {others[0]} overlap: keep them apart")
        found[label] = files
        group_of |= dict.fromkeys(places, label)
    return found


def _matched(group: str) -> tuple[str, list[str]]:
    """The name of a group and the files of its glob; either may hold "=", as p=0.1 does."""
    words = group.split("=")
    if len(words) < 2 or not words[0] or not words[-1]:
        raise UserError(f"--group {group}: write it as 'name=glob'")
    for number in range(1, len(words)):
        pattern = os.path.expanduser("=".join(words[number:]))  # no shell does it there
        # A file of just that name is meant before those that it matches as a glob.
        names = [pattern] if Path(pattern).is_file() else glob.glob(pattern, recursive=True)
        if files := sorted(name for name in names if is_one(name)):
            return "=".join(words[:number]), files
    raise UserError(f"--group {group}: no file that ends in .json matches")


def grouped(runs: list[Run], members: dict[str, list[str]]) -> Groups:
    """The runs by the group that names them; one that no group names is a group of its own.

    Within a group runs are seeds of one thing; those of two groups pair by their train.seed.
    Raises UserError where a file of several in a group does not say its train.seed, or says that
    of another.
    """
    label_of = {name: label for label, files in members.items() for name in files}
    found: Groups = {}
    for run in runs:
        if run.name in members and label_of.get(run.name) != run.name:
            raise UserError(
                f"--group {run.name}: what is compared beside it has that name, too: call the "
                "group otherwise"
            )
        label, seed = label_of.get(run.name, run.name), run.made_by.get(SEED)
        group = found.setdefault(label, {})
        if str(seed) in group or (seed is None and len(members.get(label, [])) > 1):
            raise UserError(
                f"--group {label}: {run.name} says train.seed {seed} in made_by: each "
                "file of the group needs one of its own"
            )
        group[str(seed)] = run
    return found


def schema() -> str:
    """What docs/result.schema.json is to hold."""
    return json.dumps(Result.model_json_schema(), indent=2) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(schema())
