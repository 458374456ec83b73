"""What DVC keeps of this project. All that uses DVC's insides is here and in `last_outputs`.

Its command line and `dvc.api` are public; most of what is imported here is not, so that a change
of DVC is a change of these files. The stages run without DVC, and it takes a second to import: so
each function imports what it needs.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import takewhile
from pathlib import Path, PurePosixPath
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from ruamel.yaml import YAML

from dropgpt.errors import UserError
from dropgpt.params import NOT_YAML, Params, load


@dataclass(frozen=True)
class Revision:
    """The files of a revision as DVC knows them, those in its cache too; paths are the project's.

    What reads one raises OSError where it is neither there nor in the cache.
    """

    files: Any  # a DVCFileSystem
    root: PurePosixPath  # of the project, in it

    def has(self, path: str) -> bool:
        return bool(self.files.exists(self.root / path))

    def read(self, path: str) -> bytes:
        with _missing():
            return bytes(self.files.read_bytes(self.root / path))

    def copy(self, folder: str, to: Path) -> None:
        with _missing():
            self.files.get(str(self.root / folder), str(to), recursive=True)


@contextmanager
def opened(revision: str) -> Iterator[Revision]:
    """An experiment, branch, tag or commit; "workspace" is what lies in the folder.

    Nothing is checked out. Raises UserError where there is no such revision, or where the name is
    that of two.
    """
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc.scm import SCMError

    project = _project()
    try:
        # subrepos: the project may lie below the root of git, where there need not be another.
        rev = None if revision == "workspace" else revision
        with project(rev=rev, subrepos=True, uninitialized=True) as repo:
            if rev not in (None, "HEAD"):
                _check_unambiguous(repo.scm, revision)
            files = DVCFileSystem(repo, subrepos=True, repo_factory=project)
            yield Revision(files, _root(files))
    except (DvcException, SCMError) as error:
        raise UserError(f"{revision}: {error}") from None


def _check_unambiguous(scm: Any, name: str) -> None:
    """Raise UserError where a branch or tag is called as an experiment that is another commit."""
    from dvc.repo.experiments.utils import exp_refs_by_names
    from dvc.scm import resolve_rev

    meant = resolve_rev(scm, name)
    experiments = [scm.get_ref(str(ref)) for ref in exp_refs_by_names(scm, {name})[name]]
    if experiments and meant not in experiments:
        raise UserError(
            f"{name} is a branch or tag, of commit {meant[:10]}, and an experiment, of "
            f"commit {experiments[0][:10]}: name the commit"
        )


def since_head() -> dict[str, str]:
    """The commits of the experiments that began at the commit HEAD, by their names, in their order.

    To be opened by commit: a branch or tag may have the same name, and "HEAD" is allowed, too.
    Raises UserError where there is no such commit.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import SCMError

    try:
        with Repo() as repo:
            found = repo.experiments.ls()
    except (DvcException, SCMError) as error:
        raise UserError(str(error)) from None
    return dict(sorted(pair for experiments in found.values() for pair in experiments))


def with_settings(file: Path, settings: list[str]) -> Params:
    """What `file`, a params.yaml, says with `settings`, in the words of `dvc exp run -S`.

    Raises UserError where a value is not allowed, or they are no settings.
    """
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import apply_overrides, to_hydra_overrides

    with TemporaryDirectory() as folder:
        copy = Path(folder, file.name)
        try:
            copyfile(file, copy)
            apply_overrides(copy, settings)
            return load(copy)
        except FileNotFoundError:
            raise UserError(f"{file}: no such file; run from the project's root") from None
        except UserError as error:
            raise UserError(str(error).replace(str(copy), str(file))) from None
        except (DvcException, *NOT_YAML) as error:  # range(0,1) is no value of YAML
            why = " ".join(str(error.__cause__ or error).split())
            with suppress(Exception):  # of the words themselves, of which `why` tells
                sweeps = [one for one in to_hydra_overrides(settings) if one.is_sweep_override()]
                why = f"{sweeps[0].input_line} is more than one value: give one of them"
            raise UserError(f"{', '.join(settings)}: {why}") from None


def has_commits() -> bool:
    """Whether git has a HEAD; not before the first commit."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import SCMError, resolve_rev

    try:
        with Repo() as repo:
            return bool(resolve_rev(repo.scm, "HEAD"))
    except (DvcException, SCMError):
        return False


def changed(*outputs: str) -> set[str]:
    """Those of the outputs here that are other than dvc.lock says, as after `git checkout`."""
    with _project()() as repo:
        outs = {out.def_path: out for stage in repo.index.stages for out in stage.outs}
        known = {path: outs[path] for path in outputs if path in outs and outs[path].hash_info}
        return {path for path, out in known.items() if out.exists and out.changed_checksum()}


def original() -> Path:
    """The folder of the project; of the original where DVC runs an experiment in a copy of it."""
    root, here = os.environ.get("DVC_ROOT"), Path.cwd()
    if not root:
        return Path()
    # The project may be a folder below DVC's root.
    top = next((one for one in (here, *here.parents) if (one / ".dvc").is_dir()), here)
    return Path(root, here.relative_to(top))


def ignored(paths: Iterable[Path]) -> set[Path]:
    """Those of the files in which DVC would notice no change; none where DVC cannot run."""
    try:
        from dvc.exceptions import NotDvcRepoError
        from dvc.repo import Repo
        from dvc.scm import SCMError
    except ImportError:
        return set()
    try:
        with Repo() as repo:
            return {path for path in paths if repo.dvcignore.is_ignored_file(str(path.absolute()))}
    except (NotDvcRepoError, SCMError):  # or not git's
        return set()


def read_lock(lock: Path) -> dict[str, Any]:
    """The stages of a dvc.lock, by name; none where DVC could not read it."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils.serialize import ParseError, parse_yaml
    from voluptuous import Invalid

    try:
        return dict(COMPILED_LOCKFILE_SCHEMA(parse_yaml(lock.read_text(), lock))["stages"])
    except (OSError, ParseError, Invalid, KeyError):
        return {}


def outputs(lock: str) -> dict[str, str]:
    """Each output that `lock`, the text of a dvc.lock, lists, and its md5."""
    stages = YAML(typ="safe").load(lock)["stages"].values()
    return {out["path"]: _md5(out) for stage in stages for out in stage["outs"]}


def _md5(out: dict[str, Any]) -> str:
    """Of a folder in a remote with versions of its own, those of its files."""
    if "files" not in out:
        return str(out["md5"])
    return ", ".join(sorted(f"{one['relpath']} {one['md5']}" for one in out["files"]))


def write_lock(lock: Path, stages: dict[str, Any]) -> None:
    """Write a dvc.lock as DVC does."""
    from dvc.utils.serialize import dump_yaml

    dump_yaml(lock, {"schema": "2.0", "stages": stages})


def check_made(path: Path, name: str) -> None:
    """Raise UserError where a DVC command is making `path`, of that `name`, just now."""
    if command := maker(path):
        raise UserError(f"{name} is being made: `{command}` runs")


def maker(path: Path) -> str | None:
    """The DVC command, "dvc repro" say, that is making `path` or something in it just now.

    None where there is none. DVC removes a stage's outputs before it runs it, and notes in
    .dvc/tmp/rwlock which process writes what.
    """
    path = path.resolve()
    for root in (path, *path.parents):
        with suppress(OSError, ValueError):  # there is no such file, or DVC is writing it
            writers = json.loads((root / ".dvc/tmp/rwlock").read_text()).get("write", {})
            for written, by in writers.items():
                within = Path(written).is_relative_to(path) or path.is_relative_to(written)
                if within and _is_dvc(by["pid"]):
                    return " ".join(["dvc", *takewhile(str.isalpha, by["cmd"].split()[1:])])
    return None


def _is_dvc(pid: int) -> bool:
    """What a DVC that was killed has noted stays there; another process may have its number."""
    try:
        return any("dvc" in word for word in psutil.Process(pid).cmdline())
    except psutil.Error:
        return False


@cache
def _project() -> type[Any]:
    """A Repo of DVC's that looks for stages in the dvc.yaml at its root alone.

    The laboratory's, of which nothing is asked here, take ten times as long to read.
    """
    from dvc.repo import Repo
    from dvc.repo.index import Index

    class Project(Repo):  # type: ignore[misc]
        @cached_property
        def index(self) -> Index:
            file = self.fs.join(self.root_dir, "dvc.yaml")
            return Index.from_file(self, file) if self.fs.exists(file) else Index(self)

    return Project


def _root(files: Any) -> PurePosixPath:
    """Where in `files` this DVC project begins: a revision's are those of git's root."""
    from dvc.repo import Repo

    with Repo() as here:
        if files.repo.root_dir == here.root_dir:  # the workspace
            return PurePosixPath("/")
        below = Path(here.root_dir).relative_to(here.scm.root_dir)
    return PurePosixPath("/", *below.parts)


@contextmanager
def _missing() -> Iterator[None]:
    from dvc_data.index import DataIndexDirError

    try:
        yield
    except DataIndexDirError as error:
        raise FileNotFoundError(str(error)) from None
