"""What a user is told: an error, which ends the work, or a warning, which does not."""

import sys
from pathlib import Path

# How what stands in for a file begins, and what brings the file itself.
STAND_INS = {
    b"version https://git-lfs.github.com/spec/": "git lfs pull",
    b"/annex/": "git annex get",
}


class UserError(Exception):
    """Something that the user can mend; the message, in one line, says what, where and how."""


def check_here(path: Path) -> None:
    """Raise UserError where the file only stands in for one that is elsewhere."""
    with path.open("rb") as file:
        begin = file.read(50)
    for word, command in STAND_INS.items():
        if begin.startswith(word):
            raise UserError(
                f"{path} only stands in for a file that is elsewhere: `{command}` brings it"
            )


def warn(text: str) -> None:
    """One line on standard error."""
    print(f"warning: {text}", file=sys.stderr)
