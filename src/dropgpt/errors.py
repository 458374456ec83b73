"""What a user is told: an error, which ends the work, or a warning, which does not."""

import sys


class UserError(Exception):
    """Something that the user can mend; the message, in one line, says what, where and how."""


def warn(text: str) -> None:
    """One line on standard error."""
    print(f"warning: {text}", file=sys.stderr)
