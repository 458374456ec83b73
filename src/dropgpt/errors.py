"""What a user is told: an error, which ends the work, or a warning, which does not."""

import errno
import sys
from pathlib import Path

# How what stands in for a file begins, and what brings the file itself.
STAND_INS = {
    b"version https://git-lfs.github.com/spec/": "git lfs pull",
    b"/annex/": "git annex get",
}

# Of a disk that is full, fails or refuses. What to do is in `stages.REFUSED`.
OF_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}
OF_DISK |= {errno.EIO}


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


def of_machine(error: BaseException) -> bool:
    """Whether it tells of this machine's memory or disk, and so neither of damage nor of the hub.

    What takes an error for either lets such a one go on as it is.
    """
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in OF_DISK)


def warn(text: str) -> None:
    """One line on standard error."""
    print(f"warning: {text}", file=sys.stderr)
