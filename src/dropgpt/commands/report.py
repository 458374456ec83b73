"""`dropgpt report`: all about a run or several, as a page for the browser."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from dropgpt.comparison import experiments
from dropgpt.errors import UserError
from dropgpt.machine.files import replacing
from dropgpt.machine.repository import has_commits
from dropgpt.params import load
from dropgpt.reporting import results
from dropgpt.reporting.page import page


def run(revisions: list[str], output: Path) -> None:
    if twice := next((name for name in revisions if revisions.count(name) > 1), None):
        raise UserError(f"report: {twice} is named twice")
    runtime = load(Path("params.yaml")).runtime
    try:
        runs = [experiments.read(name) for name in revisions or ["workspace"]]
        default = _default()
    except UserError as error:
        raise UserError(f"report: {error}") from None
    text = page([results.read(one, runtime) for one in runs], default)
    try:
        with replacing(output) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"report: {output} cannot be written: {error.strerror}") from None
    print(f"{output}: open it in a browser")


def _default() -> dict[str, Any]:
    """What params.yaml says at HEAD; before it was committed, what it says here."""
    with suppress(FileNotFoundError):
        if has_commits():
            return experiments.params("HEAD")
    return experiments.params("workspace")
