"""Whether runs measured the same texts in the same way, without which no loss is like another."""

from dropgpt.comparison.experiments import Run
from dropgpt.errors import UserError

# Or the numbers mean something else.
SAME = ("evaluate.stride", "evaluate.across_documents", "tokenize.end_of_text")


def check_comparable(runs: list[Run]) -> None:
    """Raise UserError where two runs did not measure the same texts in the same way."""
    for other in runs[1:]:
        if why := why_not(runs[0], other):
            raise UserError(f"{why}: no comparison")


def comparable(runs: list[Run]) -> tuple[list[Run], list[str]]:
    """The most runs that measured the same texts in the same way; a line for each other one."""
    alike: list[list[Run]] = []
    for run in runs:
        for part in alike:
            if not why_not(part[0], run):
                part.append(run)
                break
        else:
            alike.append([run])
    most = max(alike, key=len, default=[])
    others = [run for part in alike if part is not most for run in part]
    return most, [f"{why_not(most[0], run)}: {run.name} is left out" for run in others]


def why_not(first: Run, other: Run) -> str | None:
    """Why the losses of two runs mean different things, if they do."""
    for key in SAME:
        ours, theirs = first.made_by.get(key), other.made_by.get(key)
        if ours != theirs:
            return f"{first.name} was evaluated with {key} {ours}, {other.name} with {theirs}"
    ours, theirs = first.documents.sha256, other.documents.sha256
    if not ours.equals(theirs):
        if sorted(ours) == sorted(theirs):
            return f"{first.name} and {other.name} have the same texts in another order"
        return (
            f"{first.name} and {other.name} were evaluated on other held-out texts, "
            f"{first.documents.bytes.sum():,} bytes in {len(first.documents)} documents and "
            f"{other.documents.bytes.sum():,} in {len(other.documents)}"
        )
    if (differ := first.documents.bytes != other.documents.bytes).any():
        ours, theirs, sha256 = (
            column[differ].iloc[0]
            for column in (first.documents.bytes, other.documents.bytes, first.documents.sha256)
        )
        return (
            f"{first.name} has {ours:,} bytes for the text of sha256 {sha256[:8]}, {other.name} "
            f"has {theirs:,}: they are those of the text in UTF-8"
        )
    return None
