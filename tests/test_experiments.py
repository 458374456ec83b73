"""`dropgpt compare` among experiments that DVC has run."""

import json
import shlex

import pytest
import torch

from clone import DROPGPT, Clone, wait_for
from dropgpt.slot import FOLDER, slot


def test_experiments_in_the_queue_are_compared_where_they_lie(clone: Clone) -> None:
    """Two at once, which take turns, and both find all that they need in their own copies."""
    clone.dvc("exp", "remove", "--all-commits")
    grid = ["-S", "model.dropout=0.0,0.5", "-S", "train.seed=1,2"]
    clone.dvc("exp", "run", "--queue", "-n", "rate", *grid)
    with slot(torch.device("cpu"), clone.folder / FOLDER):
        clone.start_queue("--jobs", "2")
        tasks = wait_for(lambda: running(clone), seconds=100)
        for task in tasks:
            wait_for(lambda task=task: "cpu is taken" in clone.dvc("queue", "logs", task))
    wait_for(lambda: clone.dvc("queue", "status").count("Success") == 4, seconds=300)
    before = clone.bytes(), clone.git("status", "--porcelain").stdout
    found = json.loads(clone.dropgpt("compare", "--by", "model.dropout", "--json"))
    assert [(group["group"], group["runs"]) for group in found["groups"]] == [
        ("0.0", 2),
        ("0.5", 2),
    ]
    assert found["groups"][1]["low"] < found["groups"][1]["difference"] < found["groups"][1]["high"]
    assert found == json.loads(clone.dropgpt("compare", "--json"))
    own = json.loads(clone.dropgpt("compare", "workspace", "HEAD", "--json"))
    assert {document["difference"] for document in own["documents"]} == {0}
    assert "Of" in clone.dropgpt("compare", "main", "rate-2")
    assert (clone.bytes(), clone.git("status", "--porcelain").stdout) == before


def running(clone: Clone) -> list[str] | None:
    """The names of the two experiments that run, once there are two."""
    status = clone.dvc("queue", "status").splitlines()
    tasks = [line.split()[0] for line in status if "Running" in line]
    return tasks if len(tasks) == 2 else None


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["HEAD", "no-such"], "compare: no-such: "),
        (["HEAD", "HEAD~1"], "HEAD~1 has no data/evaluation.parquet in DVC's cache"),
        ([], "it takes two runs or more"),
    ],
)
def test_what_cannot_be_compared_is_told_in_a_line(
    clone: Clone, arguments: list[str], why: str
) -> None:
    clone.dvc("exp", "remove", "--all-commits")
    assert why in clone.dropgpt("compare", *arguments, ok=False)


def test_another_stride_is_not_compared(clone: Clone) -> None:
    clone.set(evaluate={"stride": 8})
    clone.dvc("repro", "evaluate")
    assert "evaluate.stride 16" in clone.dropgpt("compare", "HEAD", "workspace", ok=False)


def test_that_nobody_reads_the_rest_is_no_error(clone: Clone) -> None:
    command = f"{shlex.quote(DROPGPT)} compare HEAD workspace | true"
    assert clone.run("sh", "-c", command).stderr == ""
