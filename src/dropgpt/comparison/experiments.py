"""What experiments, branches and commits have found, read where DVC keeps it."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import SCMError
from dvc.utils.flatten import flatten
from ruamel.yaml import YAML

from dropgpt.errors import UserError

RESULT = "data/evaluation.parquet"


@dataclass(frozen=True)
class Run:
    """One run of the pipeline.

    params     dotted keys, as `dvc exp run -S` takes them
    documents  the held-out rows that the stage evaluate wrote, in the corpus's order
    """

    name: str
    params: dict[str, Any]
    documents: pd.DataFrame


def since_head() -> list[str]:
    """The names of the experiments that began at the commit HEAD, in the order of the names."""
    try:
        with Repo() as repo:
            found = repo.experiments.ls()
    except (DvcException, SCMError) as error:
        raise UserError(f"compare: {error}") from None
    return sorted(name for experiments in found.values() for name, _ in experiments)


def read(revision: str) -> Run:
    """The run of an experiment, branch, tag or commit; "workspace" is what lies in the folder.

    Nothing is checked out. Raises UserError where there is no such revision, and where it has
    no result in DVC's cache.
    """
    try:
        files = DVCFileSystem(rev=None if revision == "workspace" else revision)
        params = flatten(YAML(typ="safe").load(files.read_text("params.yaml")))
        with files.open(RESULT, "rb") as file:
            table = pd.read_parquet(file)
    except (DvcException, SCMError) as error:
        raise UserError(f"compare: {revision}: {error}") from None
    except OSError:
        raise UserError(
            f"compare: {revision} has no {RESULT} in DVC's cache: it was not evaluated, or its "
            "results are elsewhere and `dvc fetch --run-cache` may bring them"
        ) from None
    if "sha256" not in table:
        raise UserError(f"compare: {RESULT} of {revision} is of an older version of dropgpt")
    documents = table[table.corpus == "held-out"].reset_index(drop=True)
    return Run(revision, params, documents)
