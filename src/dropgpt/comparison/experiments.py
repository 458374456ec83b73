"""What experiments, branches and commits have found, read where DVC keeps it."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import pyarrow as pa
from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.index import Index
from dvc.scm import SCMError, resolve_rev
from dvc.utils.flatten import flatten
from dvc_data.index import DataIndexDirError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from dropgpt.errors import UserError
from dropgpt.machine.provenance import FILE, MODEL, Chain

RESULT = "data/evaluation"
STAGES = ("download_fineweb", "tokenize", "train", "evaluate")  # that have a part in it


@dataclass(frozen=True)
class Run:
    """One result of the stage evaluate, and what made it, as the result itself says.

    name       of the experiment, branch, tag or commit in which it was found
    made_by    the parameters, by dotted keys as `dvc exp run -S` takes them; besides, shortened
               checksums: code.STAGE, tokens (trained on, or else measured), weights (of a model
               from elsewhere), and environment after its main facts
    documents  the held-out rows of its table, in the corpus's order
    summary    what the stage evaluate has made of them, yardsticks beside them
    notes      what to know before reading the number, in lines
    chain      the whole of what the result says of itself
    """

    name: str
    made_by: dict[str, Any]
    documents: pd.DataFrame
    notes: tuple[str, ...] = ()
    summary: dict[str, Any] = field(default_factory=dict)
    chain: Chain = field(default_factory=dict)


def since_head() -> list[str]:
    """The names of the experiments that began at the commit HEAD, in the order of the names."""
    try:
        with Repo() as repo:
            found = repo.experiments.ls()
    except (DvcException, SCMError) as error:
        raise UserError(f"compare: {error}") from None
    return sorted(name for experiments in found.values() for name, _ in experiments)


def has_commits() -> bool:
    """Whether git has a HEAD; not before the first commit."""
    try:
        with Repo() as repo:
            return bool(resolve_rev(repo.scm, "HEAD"))
    except (DvcException, SCMError):
        return False


def read(revision: str) -> Run:
    """The run of an experiment, branch, tag or commit; "workspace" is what lies in the folder.

    Nothing is checked out. Raises UserError where there is no such revision, and where it has
    no result in DVC's cache, or one that does not say what made it.
    """
    try:
        with opened(revision) as (files, root):
            said = _yaml(files, root, revision, "params.yaml")
            locked = files.exists(root / "dvc.lock")
            lock = _yaml(files, root, revision, "dvc.lock") if locked else {}
            with files.open(root / RESULT / "documents.parquet", "rb") as file:
                table = pd.read_parquet(file)
            summary = json.loads(files.read_text(root / RESULT / "summary.json"))
            chain: Chain = json.loads(files.read_text(root / RESULT / FILE))
    except (pa.ArrowException, ValueError) as error:
        raise UserError(
            f"compare: {RESULT} of {revision} is damaged: {' '.join(str(error).split())}; remove "
            "the folder, and `dvc checkout evaluate` brings it back"
        ) from None
    except (OSError, DataIndexDirError):
        raise UserError(
            f"compare: {revision} has no {RESULT} in DVC's cache: it was not evaluated "
            f"(`dvc repro` there), or its results are elsewhere: `dvc exp pull REMOTE {revision}` "
            "brings an experiment's, `dvc fetch --all-commits` those of commits"
        ) from None
    documents = table[table.corpus == "held-out"].reset_index(drop=True)
    found = made_by(chain)
    notes = tuple(_notes(revision, found, said, lock))
    return Run(revision, found, documents, notes, summary, chain)


class _Project(Repo):  # type: ignore[misc]
    """Looks for stages in the dvc.yaml at its root alone.

    The laboratory's, of which nothing is asked here, take ten times as long to read.
    """

    @cached_property
    def index(self) -> Index:
        file = self.fs.join(self.root_dir, "dvc.yaml")
        return Index.from_file(self, file) if self.fs.exists(file) else Index(self)


@contextmanager
def opened(revision: str) -> Iterator[tuple[DVCFileSystem, PurePosixPath]]:
    """The files of a revision as DVC knows them, those in its cache too, and the project's root.

    Raises UserError where there is no such revision.
    """
    try:
        # subrepos: the project may lie below the root of git, where there need not be another.
        rev = None if revision == "workspace" else revision
        with _Project(rev=rev, subrepos=True, uninitialized=True) as repo:
            files = DVCFileSystem(repo, subrepos=True, repo_factory=_Project)
            yield files, _project(files)
    except (DvcException, SCMError) as error:
        raise UserError(f"compare: {revision}: {error}") from None


def params(revision: str) -> dict[str, Any]:
    """What params.yaml of a revision says, by dotted keys."""
    with opened(revision) as (files, root):
        return flatten(_yaml(files, root, revision, "params.yaml"))


def parameters(chain: Chain) -> dict[str, Any]:
    """Those of all stages that had a part in a result, by dotted keys."""
    found: dict[str, Any] = {}
    for stage, record in chain.items():
        if stage != MODEL:
            found |= flatten(record["params"])
    return found


def made_by(chain: Chain) -> dict[str, Any]:
    """What made a result, by dotted keys; see `Run`."""
    found = parameters(chain)
    records = {stage: chain[stage] for stage in ("train", "evaluate") if stage in chain}
    found |= {f"code.{stage}": record["code"][:8] for stage, record in records.items()}
    first, *_ = records.values()
    if "train" not in records:  # a model from elsewhere, of which nothing else is known
        found["weights"] = first["inputs"]["weights"][:8]
    made_in = [record["environment"] for record in records.values()]
    checksum = hashlib.sha256(json.dumps(made_in).encode()).hexdigest()[:8]
    place = "{device}, threads {threads}, {precision}".format(**first["environment"])
    return found | {
        "tokens": first["inputs"]["tokens"][:8],
        "environment": f"{place} ({checksum})",
    }


def _project(files: DVCFileSystem) -> PurePosixPath:
    """Where in `files` this DVC project begins: a revision's are those of git's root."""
    repo = files.repo
    with Repo() as here:
        if repo.root_dir == here.root_dir:  # the workspace
            return PurePosixPath("/")
        below = Path(here.root_dir).relative_to(here.scm.root_dir)
    return PurePosixPath("/", *below.parts)


def _yaml(files: DVCFileSystem, root: PurePosixPath, revision: str, name: str) -> dict[str, Any]:
    try:
        values = YAML(typ="safe").load(files.read_text(root / name))
    except (YAMLError, UnicodeDecodeError):
        values = None
    if not isinstance(values, dict):
        raise UserError(f"compare: {name} of {revision} is not YAML with sections in it")
    return values


def _notes(
    revision: str, found: dict[str, Any], said: dict[str, Any], lock: dict[str, Any]
) -> Iterator[str]:
    """A line where the revision's params.yaml is not what made its result."""
    sections = ("tokenize", "model", "train", "evaluate")  # as the stages follow each other
    told = flatten({name: said.get(name) or {} for name in sections})
    differing = [key for key in told if key in found and told[key] != found[key]]
    other = [f"{key} {told[key]}, the result was made with {found[key]}" for key in differing]
    what = f"params.yaml says {'; '.join(other)}" if other else "its result is an older one"
    if waiting := next((stage for stage in STAGES if not _has_run(stage, said, lock)), None):
        yield f"{revision}: {what}: the stage {waiting} has not run since"
    elif other:
        section = differing[0].split(".")[0]
        stage = "train" if section == "model" else section
        yield (
            f"{revision}: {what}: the stage {stage} has not run since, though DVC believes it, as "
            f"after `dvc exp save` or `dvc commit`: `dvc repro --force {stage}`, then `dvc repro`"
        )


def _has_run(stage: str, said: dict[str, Any], lock: dict[str, Any]) -> bool:
    """Whether dvc.lock knows of a run of `stage` with these parameters on what lies before it."""
    stages = lock.get("stages", {})
    if stage not in stages:
        return False
    last = stages[stage]
    params = last.get("params", {}).get("params.yaml", {})
    if any(flatten({name: said.get(name)}) != flatten({name: params[name]}) for name in params):
        return False
    made = {out["path"]: out["md5"] for other in stages.values() for out in other.get("outs", [])}
    return all(dep["md5"] == made.get(dep["path"], dep["md5"]) for dep in last.get("deps", []))
