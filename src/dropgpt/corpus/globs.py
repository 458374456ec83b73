"""Which files in corpora/ a name or a glob means."""

import os
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path

from dropgpt.corpus import formats
from dropgpt.errors import UserError, counted, warn
from dropgpt.machine import repository

FOLDER = "corpora"  # the folder that DVC watches, by dvc.yaml
MEND = f"copy or link the file itself into {FOLDER}/"


def files(pattern: str, key: str) -> list[Path]:
    """The files to read. Raises UserError if there is none, or one that DVC does not watch."""
    for part in Path(pattern).parts:
        if "**" in part and part != "**":  # Python 3.13 takes it for `*`, older ones not at all
            raise UserError(
                f"{key} is {pattern!r}, which is no glob: `**` stands for folders, between slashes "
                f"and alone, as in {FOLDER}/**/*.txt"
            )
    here = _in_project(pattern)
    try:
        _warn_of_missing(here, key)
        paths = _matches(Path(), here)
    except PermissionError as error:
        raise UserError(
            f"{key} is {pattern!r}, and {error.filename} may not be read; allow it, or narrow the "
            "glob"
        ) from None
    except (ValueError, OSError) as error:
        raise UserError(f"{key} is {pattern!r}, which is no file name or glob: {error}") from None
    linked = _linked_folders(here)
    _check_checked_out(here, key)
    if not paths:
        hint = f"the linked folder {linked[0]} is not entered: {MEND}" if linked else _near(here)
        raise UserError(f"{key} is {pattern!r}, which matches no file; {hint}")
    if linked:
        warn(f"{key}: the linked folder {linked[0]} is not entered; to read a file, {MEND}")
    _check_watched(paths)
    # DVC may link equal files to one of its cache, or not: there each counts.
    inside = Path(FOLDER).resolve()
    files: dict[Path, Path] = {}
    for path in paths:
        leads_to = path.resolve()
        files.setdefault(leads_to if leads_to.is_relative_to(inside) else path.absolute(), path)
    return list(files.values())


def _near(pattern: str) -> str:
    """What to name where a pattern matches no file."""
    if Path(pattern).is_dir():
        return f"of a folder name the files: {Path(pattern)}/*.txt, or {Path(pattern)}/**/*.txt"
    there = [
        path.as_posix()
        for path in sorted(Path(FOLDER).rglob("*"), key=str)
        if path.is_file() and formats.ending(path) in formats.ENDINGS
    ]
    names = {Path(name).name: name for name in reversed(there)}
    near = get_close_matches(Path(pattern).name, names, n=1)
    if near:
        return f"did you mean {names[near[0]]}?"
    return f"{FOLDER}/ has {there[0]}, say" if there else f"{FOLDER}/ has no file to read"


def _in_project(pattern: str) -> str:
    """A name or glob without the folder of the project, or of the one that this is a copy of."""
    # PWD: as the shell has it, which may lead through a link.
    for folder in (Path.cwd(), Path(os.environ.get("PWD", "")), repository.original()):
        if folder.resolve() not in (Path.cwd(), repository.original().resolve()):
            continue
        if Path(pattern).is_absolute() and Path(pattern).is_relative_to(folder):
            return str(Path(pattern).relative_to(folder))
    return pattern


def _matches(root: Path, pattern: str) -> list[Path]:
    """The files below `root` that a name or a glob means, sorted. `*` matches no hidden name.

    Raises PermissionError for a folder that may not be read, and UserError for one that is named
    like a file and for a link to nothing: else they would be left out without a word.
    """
    wanted = Path(pattern)
    if os.path.lexists(root / wanted):
        found = [root / wanted]
    else:
        root /= wanted.anchor
        below = wanted.relative_to(wanted.anchor)
        if below.name == "**":
            below /= "*"
        for folder in [*below.parents][:-1]:  # in one that may not be read a glob finds nothing
            for path in _shown(root, folder):
                if path.is_dir():
                    os.scandir(path).close()
                    os.stat(f"{path}/.")
        found = _shown(root, below)
    for path in found:
        if path.is_symlink() and not path.exists():
            annexed = "annex" in path.readlink().parts
            mend = "`git annex get` brings it" if annexed else "mend it or take it out"
            raise UserError(f"{path}: a link to nothing; {mend}")
    files = sorted((path for path in found if path.is_file()), key=str)
    entered = {folder for path in files for folder in path.parents}
    for path in {*found} - {*files} - entered:
        if formats.ending(path) in formats.ENDINGS:
            if not path.is_dir():
                raise UserError(f"{path} is no file: a pipe or a device has no end; take it out")
            raise UserError(
                f"{path} is a folder, though named like a file; rename it or, to read what is in "
                f"it, name {path}/*{formats.ending(path)}"
            )
    return files


def _shown(root: Path, glob: Path) -> list[Path]:
    """What a glob means below `root`, less what is hidden where the glob names nothing hidden."""
    hidden = any(part.startswith(".") for part in glob.parts)
    return [
        path
        for path in root.glob(str(glob))
        if hidden or not any(part.startswith(".") for part in path.relative_to(root).parts)
    ]


def _check_checked_out(pattern: str, key: str) -> None:
    """Raise UserError where a .dvc stands for a file that is not here."""
    tracked_as = f"{pattern}/*.dvc" if Path(pattern).name == "**" else f"{pattern}.dvc"
    for tracked in _matches(Path(), tracked_as):
        if not os.path.lexists(tracked.with_suffix("")):
            raise UserError(
                f"{key} is {pattern!r}, and {tracked} stands for a file that is not here: "
                f"`dvc checkout {tracked}` brings it, after `dvc pull {tracked}` where it was made "
                "elsewhere"
            )
    for tracked in sorted(Path(FOLDER).rglob("*.dvc")):
        folder = tracked.with_suffix("")
        if not tracked.is_file():
            continue
        if os.path.lexists(folder) or ".dir" not in tracked.read_text(errors="replace"):
            continue  # it is here, or stands for a file
        if _may_lead_into(pattern, folder):
            raise UserError(
                f"{key} is {pattern!r}, and {tracked} stands for what is not here: `dvc checkout "
                f"{tracked}` brings it, after `dvc pull {tracked}` where it was made elsewhere"
            )


def _may_lead_into(pattern: str, folder: Path) -> bool:
    """Whether a name or a glob could mean something in a folder."""
    wanted = Path(pattern).parts
    for part, name in zip(wanted, folder.parts, strict=False):
        if part == "**":
            return True
        if not fnmatch(name, part):
            return False
    return len(wanted) > len(folder.parts)


def _linked_folders(pattern: str) -> list[str]:
    """Folders that `**` would enter if they were not links, and that lead out of FOLDER."""
    before, wild, _ = str(Path(pattern)).partition("**")
    if not wild:
        return []
    inside = Path(FOLDER).resolve()
    return [
        path.as_posix()
        for folder, names, _ in os.walk(FOLDER)
        for path in (Path(folder, name) for name in sorted(names))
        if path.is_symlink() and fnmatch(f"{path}/", f"{before}*")
        if not path.resolve().is_relative_to(inside)
    ]


def _check_watched(paths: list[Path]) -> None:
    """Raise UserError for a file in which DVC would not notice a change."""
    ignored = repository.ignored(paths)
    for path in paths:
        if path.parts[0] != FOLDER or ".." in path.parts:
            raise UserError(
                f"{path} is not in {FOLDER}/, so that DVC would not notice a change; {MEND}"
            )
        for folder in path.parents:
            if folder.is_symlink():
                raise UserError(
                    f"{path} is reached through the linked folder {folder}, in which DVC would not "
                    f"notice a change; {MEND}"
                )
        if path in ignored:
            raise UserError(
                f"{path} is ignored by DVC (.dvcignore, or a folder such as .git), so that it "
                "would not notice a change; move it or rename it"
            )


def _warn_of_missing(pattern: str, key: str) -> None:
    """Say which files are not in this copy of the project, in which DVC runs an experiment."""
    original = repository.original()
    if original.resolve() == Path().resolve() or Path(pattern).is_absolute():
        return
    here = _matches(Path(), pattern)
    there = [path.relative_to(original) for path in _matches(original, pattern)]
    if missing := [path for path in there if path not in here]:
        warn(
            f"{key}: the copy of the project in which DVC runs this experiment lacks "
            f"{counted(len(missing), 'file')} such as {missing[0]}; `git add` or `dvc add` brings "
            "what is missing there"
        )
