"""What a user is told: an error, which ends the work, or a warning, which does not."""

import errno
import sys
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

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


def counted(number: int, noun: str) -> str:
    """So many of a thing, as 1 row or 2,000 rows."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def explain(path: Path, error: Any, known: Sequence[str] = (), unknown: str | None = None) -> str:
    """One mistake that pydantic has found in a file, as a user says it.

    `known` are the keys that there might be, dotted; `unknown` is what to say of any other.
    """
    *above, name = map(str, error["loc"]) if error["loc"] else [""]
    where = f"{path}: {'.'.join([*above, name])}" if name else f"{path}"
    given = error["input"]
    match error["type"]:
        case "extra_forbidden":
            near = _nearest(".".join(above), name, known)
            hint = f"did you mean {near}?" if near else "remove it"
            return f"{where}: {unknown or f'unknown key; {hint}'}"
        case "missing":
            return f"{where}: this key is missing"
        case "value_error":
            value = f" is {given!r}" if isinstance(given, str | int | float) else ""
            return f"{where}{value}: {error['ctx']['error']}"
        case "model_type" if known:
            section = ".".join([*above, name]) + "." if name else ""
            below = [key.removeprefix(section) for key in known if key.startswith(section)]
            names = ", ".join(key for key in below if "." not in key)
            kind = "a section with the keys" if name else "a file with the sections"
            return f"{where} is {given!r}: it should be {kind} {names}"
    said = error["msg"].lower()
    if error["type"] == "int_type" and isinstance(given, float) and given.is_integer():
        said += f", written {int(given)}"
    scalar = not isinstance(given, list) and given is not None
    if error["type"] == "string_type" and scalar and ".yaml" in path.name:
        said += "; YAML takes it for something else: put it in quotation marks"
    return f"{where}: {said}" if isinstance(given, dict) else f"{where} is {given!r}: {said}"


def keys(section: Any, prefix: str = "") -> Iterator[str]:
    """Every key of a pydantic model and below, dotted, as `dvc exp run -S` takes them."""
    for name, field in section.model_fields.items():
        yield prefix + name
        if hasattr(field.annotation, "model_fields"):
            yield from keys(field.annotation, f"{prefix}{name}.")


def _nearest(section: str, name: str, known: Sequence[str]) -> str | None:
    """The key of this section that is spelled most like it, or the one of that name in another."""
    apart = [(*key.rpartition("."), key) for key in known]
    beside = {last: key for above, _, last, key in apart if above == section}
    if near := get_close_matches(name, beside, n=1, cutoff=0.65):
        return beside[near[0]]
    return next((key for _, _, last, key in apart if last == name), None)
