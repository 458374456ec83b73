"""`dropgpt compare` among experiments that DVC has run."""

import errno
import hashlib
import json
import os
import random
import re
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from clone import DROPGPT, Clone, wait_for
from conftest import message
from dropgpt.comparison import experiments, result_file
from dropgpt.comparison.comparable import check_comparable
from dropgpt.comparison.experiments import made_by
from dropgpt.errors import UserError
from dropgpt.machine.repository import Revision, since_head
from dropgpt.machine.slot import FOLDER, slot


@pytest.mark.slow
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


def test_what_cannot_be_compared_is_told_in_a_line(clone: Clone) -> None:
    clone.dvc("exp", "remove", "--all-commits")
    for arguments, why in [
        (["HEAD", "no-such"], "error: no-such: "),
        (["HEAD", "HEAD~1"], "HEAD~1 has no data/evaluation in DVC's cache"),
        ([], "it takes two runs or more"),
    ]:
        assert why in clone.dropgpt("compare", *arguments, ok=False)


def test_other_pipelines_in_the_project_are_not_read(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The laboratory's would take ten times as long as the project's own."""
    (clone.folder / "other").mkdir()
    (clone.folder / "other/dvc.yaml").write_text("stages: [")
    clone.commit()
    clone.git("branch", "--force", "with-another")
    clone.git("reset", "--quiet", "--hard", "HEAD~1")
    monkeypatch.chdir(clone.folder)
    assert experiments.read("with-another").summary == clone.summary()


def test_a_damaged_result_is_told_in_a_line(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is cut off or flipped: some bits of a table would change a loss alone."""
    monkeypatch.chdir(clone.folder)
    for name in ("documents.parquet", "summary.json", "provenance.json", "SHA256SUMS"):
        path = Path("data/evaluation", name)
        content = path.read_bytes()
        path.unlink()  # it may be a link into DVC's cache
        places = random.Random(name).sample(range(len(content)), 10)
        flipped = [content[:n] + bytes([content[n] ^ 1]) + content[n + 1 :] for n in places]
        for number, damaged in enumerate([*flipped, content[: len(content) // 2], b""]):
            path.write_bytes(damaged)
            with pytest.raises(UserError) as error:
                experiments.read("workspace")
            assert "data/evaluation of workspace is damaged: " in message(error)
            assert name in message(error) or name == "SHA256SUMS", number
        path.write_bytes(content)
    assert experiments.read("workspace").summary == clone.summary()


def test_a_damaged_cache_is_told_of_the_revision(clone: Clone) -> None:
    table = clone.folder / "data/evaluation/documents.parquet"
    md5 = hashlib.md5(table.read_bytes()).hexdigest()
    entry = clone.folder / f".dvc/cache/files/md5/{md5[:2]}/{md5[2:]}"
    content = entry.read_bytes()
    entry.chmod(0o644)
    try:
        entry.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
        said = clone.dropgpt("compare", "HEAD", "workspace", ok=False)
        assert "data/evaluation of HEAD is damaged: documents.parquet is not what" in said
        assert "docs/recovery.md" in said
    finally:
        entry.write_bytes(content)


def test_an_experiment_may_be_called_as_a_branch_a_tag_or_what_lies_here(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own result stands under its name; who names it is asked which of the two is meant."""
    clone.dvc("exp", "remove", "--all-commits")
    clone.dvc("exp", "run", "-n", "best", "-S", "model.dropout=0.3", "evaluate")
    clone.git("checkout", "--quiet", "--force", "HEAD")
    (ref,) = clone.git("for-each-ref", "--format=%(refname)", "refs/exps/*/*/best").stdout.split()
    for name in ("workspace", "HEAD", "main"):
        clone.git("update-ref", ref.replace("/best", f"/{name}"), ref)
    clone.git("tag", "best", "HEAD")
    monkeypatch.chdir(clone.folder)
    try:
        found, notes = experiments.read_all(since_head().items())
        assert [run.name for run in found] == ["HEAD", "best", "main", "workspace"]
        assert [run.made_by["model.dropout"] for run in found] == [0.3] * 4
        assert notes == []
        assert experiments.params("HEAD")["model.dropout"] == 0.1
        for name in ("best", "main"):
            said = clone.dropgpt("compare", name, "workspace", ok=False)
            match = re.search(
                rf"{name} is a branch or tag, of commit (\w+), and an .* (\w+):", said
            )
            assert match
            rates = [experiments.read(commit).made_by["model.dropout"] for commit in match.groups()]
            assert rates == [0.1, 0.3]
    finally:
        clone.git("tag", "-d", "best")
        for name in ("workspace", "HEAD", "main", "best"):
            clone.git("update-ref", "-d", ref.replace("/best", f"/{name}"))


def test_another_stride_is_not_compared(clone: Clone) -> None:
    clone.set(evaluate={"stride": 8})
    clone.dvc("repro", "evaluate")
    assert "evaluate.stride 16" in clone.dropgpt("compare", "HEAD", "workspace", ok=False)


def test_that_nobody_reads_the_rest_is_no_error(clone: Clone) -> None:
    command = f"{shlex.quote(DROPGPT)} compare HEAD workspace | true"
    assert clone.run("sh", "-c", command).stderr == ""


@pytest.mark.slow
def test_what_was_measured_otherwise_or_is_not_there_is_left_out_of_all(clone: Clone) -> None:
    clone.dvc("exp", "remove", "--all-commits")
    for name, change in [
        ("a", "model.dropout=0.2"),
        ("b", "model.dropout=0.3"),
        ("other-stride", "evaluate.stride=8"),
    ]:
        clone.dvc("exp", "run", "-n", name, "-S", change, "evaluate")
        clone.git("checkout", "--quiet", "--force", "HEAD")
    found = json.loads(clone.dropgpt("compare", "--json"))
    assert [group["group"] for group in found["groups"]] == ["0.2", "0.3"]
    assert any("evaluate.stride" in note and "left out" in note for note in found["notes"])


@pytest.mark.parametrize(
    "content",
    ["data: [\n", *(pytest.param(one, marks=pytest.mark.slow) for one in ("\n", "- 1\n"))],
)
def test_a_revision_whose_params_are_none_is_named(clone: Clone, content: str) -> None:
    (clone.folder / "params.yaml").write_text(content)
    clone.commit()
    clone.git("branch", "--force", "no-params")
    clone.git("reset", "--quiet", "--hard", "HEAD~1")
    line = clone.dropgpt("compare", "HEAD", "no-params", ok=False)
    assert "no-params" in line
    assert "params.yaml" in line


def test_what_a_disk_refuses_is_not_told_as_a_result_that_is_not_there(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a cache that others share, and not with everybody."""
    monkeypatch.chdir(clone.folder)

    def refused(self: Any, path: str) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(Revision, "read", refused)
    with pytest.raises(UserError, match=r"^HEAD: params\.yaml: Permission denied$"):
        experiments.read("HEAD")


def test_a_mistake_is_told_by_the_name_of_the_experiment(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clone.folder)
    with pytest.raises(UserError, match=r"^mine: "):
        experiments.read("mine", "f" * 40)


def test_it_fits_into_80_columns(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    name = "a-branch-with-a-name-that-is-long"
    clone.git("branch", name)
    clone.set(train={"steps": 5})  # which a note tells
    said = clone.dropgpt("compare", name, "workspace")
    clone.git("branch", "-D", name)
    assert "note: workspace: params.yaml says train.steps 5" in said
    assert max(map(len, said.splitlines())) <= 80


def test_a_terminal_that_does_not_know_every_letter(clone: Clone) -> None:
    clone.git("branch", "naïve")
    command = ["env", "PYTHONIOENCODING=ascii", "LC_ALL=C", DROPGPT]
    assert "na\\xefve" in clone.run(*command, "compare", "HEAD", "naïve").stdout
    clone.git("branch", "-D", "naïve")


@pytest.mark.slow
def test_the_advice_brings_a_result_that_is_elsewhere(clone: Clone, tmp_path: Path) -> None:
    clone = clone.copy(tmp_path / "clone")  # since `dvc gc` empties the cache of the other tests
    clone.dvc("remote", "add", "--default", "store", str(tmp_path / "store"))
    clone.dvc("exp", "run", "-n", "far", "-S", "train.seed=9")
    clone.run("git", "clone", "--quiet", "--bare", str(clone.folder), str(tmp_path / "git"))
    clone.git("remote", "add", "origin", str(tmp_path / "git"))
    clone.dvc("exp", "push", "origin", "far")
    clone.dvc("exp", "remove", "far")
    clone.git("checkout", "--quiet", "--force", "HEAD")
    clone.dvc("checkout", "--force")
    clone.dvc("gc", "--workspace", "--force")
    clone.dvc("exp", "pull", "--no-cache", "origin", "far")
    store = tmp_path / "store"  # which the experiment's own .dvc/config names: it would be read
    store.rename(tmp_path / "away")
    line = clone.dropgpt("compare", "HEAD", "far", ok=False)
    assert "`dvc exp pull REMOTE far`" in line
    (tmp_path / "away").rename(store)
    clone.dvc("exp", "pull", "origin", "far")
    assert "Of" in clone.dropgpt("compare", "HEAD", "far")


def test_a_model_from_elsewhere_is_told_by_its_weights() -> None:
    """Two may have lain under one name."""
    record = {
        "params": {"evaluate": {"model": "pretrained/a", "stride": 16}},
        "inputs": {"tokens": "11111111aa", "weights": "22222222bb"},
        "code": "33333333cc",
        "environment": {"device": "cpu", "threads": 1, "precision": "float32"},
    }
    found = made_by({"evaluate": record})
    assert found["weights"] == "22222222"
    assert found["evaluate.model"] == "pretrained/a"
    assert "weights" not in made_by({"train": record, "evaluate": record})


def test_a_result_file_of_ours_is_what_the_stage_evaluate_found(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dropgpt measure` finds the same to the bit; the two compare, if measured the same way."""
    monkeypatch.chdir(clone.folder)
    file = Path("o.json")
    clone.dropgpt("measure", "models/gpt", "--output", str(file))
    table = pd.read_parquet("data/evaluation/documents.parquet")
    own = result_file.read(str(file))
    for column in ("id", "sha256", "bytes", "tokens", "nats"):
        assert own.documents[column].tolist() == table[column].tolist(), column
    assert (own.made_by["model.dropout"], own.made_by["train.seed"]) == (0.1, 1)
    said = json.loads(clone.dropgpt("compare", "workspace", str(file), "--json"))
    assert said["groups"][1]["difference"] == 0
    content = json.loads(file.read_text())
    content["measured"]["stride"] = 8
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"evaluate\.stride 16, o\.json with 8"):
        check_comparable([experiments.read("workspace"), result_file.read(str(file))])


def test_a_folder_that_a_remote_keeps_file_by_file_has_no_checksum_of_its_own() -> None:
    """As `dvc push` leaves dvc.lock where the remote has versions of its own."""
    tokens = {"path": "data/tokens"}
    apart = tokens | {"files": [{"relpath": "SHA256SUMS", "md5": "1"}]}
    for made, read, has_run in (
        (tokens | {"md5": "1.dir"}, tokens | {"md5": "1.dir"}, True),
        (tokens | {"md5": "2.dir"}, tokens | {"md5": "1.dir"}, False),
        (apart, tokens | {"md5": "1.dir"}, True),
        (apart, apart, True),
    ):
        lock = {"stages": {"tokenize": {"outs": [made]}, "train": {"deps": [read]}}}
        assert experiments._has_run("train", {}, lock) == has_run


def test_an_empty_name_is_not_the_workspace() -> None:
    with pytest.raises(UserError, match="an empty name is no revision"):
        experiments.read("")
