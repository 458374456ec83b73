"""`dropgpt compare` among experiments that DVC has run."""

import json
import shlex

import pytest
import torch

from clone import DROPGPT, Clone, wait_for
from dropgpt.machine.slot import FOLDER, slot


def test_experiments_in_the_queue_are_compared_where_they_lie(clone: Clone) -> None:
    """Two at once, which take turns, and both find all that they need in their own copies."""
    clone.dvc("exp", "remove", "--all-commits")
    grid = ["-S", "model.dropout=0.0,0.5", "-S", "train.seed=1,2"]
    clone.dvc("exp", "run", "--queue", "-n", "rate", *grid)
    with slot(torch.device("cpu"), clone.folder / FOLDER):
        clone.start_queue("--jobs", "2")
        wait_for(lambda: sum("cpu is taken" in log for log in logs(clone)) == 2, seconds=100)
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
    assert own["notes"] == []
    assert "Of" in clone.dropgpt("compare", "main", "rate-2")
    assert (clone.bytes(), clone.git("status", "--porcelain").stdout) == before


def logs(clone: Clone) -> list[str]:
    """What each job of the queue has printed so far."""
    return [file.read_text() for file in clone.folder.glob(".dvc/tmp/exps/run/*/*.out")]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["HEAD", "no-such"], "compare: no-such: "),
        (["HEAD", "HEAD~1"], "HEAD~1 has no data/evaluation in DVC's cache"),
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
