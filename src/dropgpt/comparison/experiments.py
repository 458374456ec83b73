"""What experiments, branches and commits have found, read where DVC keeps it."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from dropgpt.errors import UserError, of_machine
from dropgpt.machine.files import SUMS
from dropgpt.machine.provenance import FILE, MODEL, Chain
from dropgpt.machine.repository import Revision, changed, check_made, opened
from dropgpt.params import NOT_YAML, Evaluate, dotted

RESULT = "data/evaluation"
DOCUMENTS = "data/documents.parquet"
FILES = ("documents.parquet", "summary.json", FILE)  # of it, sealed
# What params.yaml says of a measurement in the project.
EVALUATE = Evaluate(
    model=None,
    seed=1,
    stride=64,
    across_documents=False,
    batch_size=32,
    dropout_passes=1,
    extra_corpora=[],
)
STAGES = ("download_fineweb", "tokenize", "train", "evaluate")  # that have a part in it


@dataclass(frozen=True)
class Run:
    """One result, and what made it, as the result itself says: of the stage evaluate, or of a
    result file, which has no summary and no chain.

    name       of the experiment, branch, tag or commit in which it was found, or of the file
    made_by    the parameters, by dotted keys as `dvc exp run -S` takes them; besides, shortened
               checksums: code.STAGE, tokens (trained on, or else measured), weights and
               config (of a model from elsewhere), and environment after its main facts
    documents  the held-out rows of its table, in the corpus's order
    summary    what the stage evaluate has made of them, yardsticks beside them
    notes      what to know before reading the number, in lines
    chain      the whole of what the result says of itself
    texts      the checksum of the documents that were tokenized, as dvc.lock has it; None where
               it does not say
    """

    name: str
    made_by: dict[str, Any]
    documents: pd.DataFrame
    notes: tuple[str, ...] = ()
    summary: dict[str, Any] = field(default_factory=dict)
    chain: Chain = field(default_factory=dict)
    texts: str | None = None


def read_all(named: Iterable[tuple[str, str]]) -> tuple[list[Run], list[str]]:
    """The runs of those that can be read, each a name and its commit; a line for each other one."""
    runs, notes = [], []
    for name, commit in named:
        try:
            runs.append(read(name, commit))
        except UserError as error:
            notes.append(f"{error}: left out")
    return runs, notes


def read(name: str, commit: str | None = None) -> Run:
    """The run of an experiment, branch, tag or commit; "workspace" is what lies in the folder.

    It is opened by its `commit` where that is known. Nothing is checked out. Raises UserError where
    there is no such revision, and where it has no result in DVC's cache, or a damaged one.
    """
    revision = commit or name
    if not revision:  # to DVC it is the workspace
        raise UserError("an empty name is no revision: is a variable of the shell not set?")
    try:
        with opened(revision) as files:
            said = _yaml(files, name, "params.yaml")
            lock = _yaml(files, name, "dvc.lock") if files.has("dvc.lock") else {}
            sums = files.read(f"{RESULT}/{SUMS}").splitlines()
            content = {file: files.read(f"{RESULT}/{file}") for file in FILES}
    except UserError as error:
        raise UserError(str(error).replace(revision, name)) from None
    except OSError as error:
        if of_machine(error):
            raise UserError(f"{name}: {error.filename or RESULT}: {error.strerror}") from None
        if revision == "workspace":
            check_made(Path(), RESULT)
        remedy = (
            f"`dvc exp pull REMOTE {name}` brings an experiment's, `dvc fetch --all-commits` those "
            "of commits"
        )
        if revision == "workspace":
            remedy = "`dvc pull` brings them"
        raise UserError(
            f"{name} has no {RESULT} in DVC's cache: it was not evaluated "
            "(`dvc repro` there), or `dvc gc` has removed its results, or they are elsewhere: "
            f"{remedy}"
        ) from None
    for file, found in content.items():
        if f"{hashlib.sha256(found).hexdigest()}  {file}".encode() not in sums:
            remedy = "it is so in DVC's cache: docs/recovery.md says how to mend it"
            if revision == "workspace":
                remedy = "remove the folder, and `dvc checkout evaluate` brings it back"
            raise UserError(
                f"{RESULT} of {name} is damaged: {file} is not what evaluate wrote there; {remedy}"
            )
    table, summary, chain = (content[file] for file in FILES)
    documents = pd.read_parquet(BytesIO(table))
    documents = documents[documents.corpus == "held-out"].reset_index(drop=True)
    made_from: Chain = json.loads(chain)
    known = made_by(made_from)
    notes = tuple(_notes(name, revision, known, said, lock))
    texts = None if notes else _texts(lock)  # else the lock may be of another run
    return Run(name, known, documents, notes, json.loads(summary), made_from, texts)


def params(revision: str) -> dict[str, Any]:
    """What params.yaml of a revision says, by dotted keys."""
    with opened(revision) as files:
        return dotted(_yaml(files, revision, "params.yaml"))


def parameters(chain: Chain) -> dict[str, Any]:
    """Those of all stages that had a part in a result, by dotted keys."""
    found: dict[str, Any] = {}
    for stage, record in chain.items():
        if stage != MODEL:
            found |= dotted(record["params"])
    return found


def evaluated(chain: Chain) -> Evaluate:
    """How a result was measured; of one of older code, by the parameters that there are today."""
    said = chain["evaluate"]["params"]["evaluate"]
    known = {key: value for key, value in said.items() if key in Evaluate.model_fields}
    return Evaluate.model_validate(EVALUATE.model_dump() | known)


def made_by(chain: Chain) -> dict[str, Any]:
    """What made a result, by dotted keys; see `Run`."""
    found = parameters(chain)
    records = {stage: chain[stage] for stage in ("train", "evaluate") if stage in chain}
    found |= {f"code.{stage}": record["code"][:8] for stage, record in records.items()}
    first, *_ = records.values()
    if "train" not in records:  # a model from elsewhere, of which nothing else is known
        of_model = {key: first["inputs"].get(key) for key in ("weights", "config")}
        found |= {key: checksum[:8] for key, checksum in of_model.items() if checksum}
    made_in = [record["environment"] for record in records.values()]
    checksum = hashlib.sha256(json.dumps(made_in).encode()).hexdigest()[:8]
    place = "{device}, threads {threads}, {precision}".format(**first["environment"])
    return found | {
        "tokens": first["inputs"]["tokens"][:8],
        "environment": f"{place} ({checksum})",
    }


def _yaml(files: Revision, revision: str, name: str) -> dict[str, Any]:
    try:
        values = YAML(typ="safe").load(files.read(name).decode())
    except NOT_YAML:
        values = None
    if not isinstance(values, dict):
        raise UserError(f"{name} of {revision} is not YAML with sections in it")
    return values


def _notes(
    name: str, revision: str, found: dict[str, Any], said: dict[str, Any], lock: dict[str, Any]
) -> Iterator[str]:
    """A line where the revision's params.yaml is not what made its result."""
    sections = ("tokenize", "model", "train", "evaluate")  # as the stages follow each other
    told = dotted({section: said.get(section) or {} for section in sections})
    differing = [key for key in told if key in found and told[key] != found[key]]
    other = [f"{key} {told[key]}, the result was made with {found[key]}" for key in differing]
    what = f"params.yaml says {'; '.join(other)}" if other else "its result is an older one"
    if waiting := next((stage for stage in STAGES if not _has_run(stage, said, lock)), None):
        yield f"{name}: {what}: the stage {waiting} has not run since"
    elif other and revision == "workspace" and changed(RESULT):
        yield (
            f"{name}: {what}, and is not the one in dvc.lock, as after `git checkout`: "
            "`dvc checkout` brings that"
        )
    elif other:
        section = differing[0].split(".")[0]
        stage = "train" if section == "model" else section
        yield (
            f"{name}: {what}: the stage {stage} has not run since, though DVC believes it, as "
            f"after `dvc exp save` or `dvc commit`: `dvc repro --force {stage}`, then `dvc repro`"
        )


def _texts(lock: dict[str, Any]) -> str | None:
    read = lock.get("stages", {}).get("tokenize", {}).get("deps", [])
    return next((one.get("md5") for one in read if one["path"] == DOCUMENTS), None)


def _has_run(stage: str, said: dict[str, Any], lock: dict[str, Any]) -> bool:
    """Whether dvc.lock knows of a run of `stage` with these parameters on what lies before it."""
    stages = lock.get("stages", {})
    if stage not in stages:
        return False
    last = stages[stage]
    params = last.get("params", {}).get("params.yaml", {})
    if any(dotted({name: said.get(name)}) != dotted({name: params[name]}) for name in params):
        return False
    outs = [out for other in stages.values() for out in other.get("outs", [])]
    # A folder that was pushed to a remote with versions of its own has no md5, but those of files.
    made = {out["path"]: out["md5"] for out in outs if "md5" in out}
    read = {dep["path"]: dep["md5"] for dep in last.get("deps", []) if "md5" in dep}
    return all(md5 == made.get(path, md5) for path, md5 in read.items())
