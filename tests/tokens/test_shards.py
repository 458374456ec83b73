"""A whole config of FineWeb, by the real stages, killed and gone on with by more processes."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from hashlib import md5
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import hub
from clone import Clone, environment, wait_for
from conftest import ROOT, params_with
from dropgpt.corpus import hub_shards
from dropgpt.corpus.document import Document
from dropgpt.corpus.hub_shards import Shard
from dropgpt.tokens import shards, tensor
from dropgpt.tokens.encoding import encode_documents
from dropgpt.tokens.vocabulary import N_VOCAB, gpt2_encoding

FILES, ROWS = 6, 300


def texts(file: int) -> list[dict[str, object]]:
    rows = hub.rows(*range(file * ROWS, (file + 1) * ROWS))
    return [row | {"text": row["text"] * 8} for row in rows]


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    rows = [row for file in range(FILES) for row in texts(file)]
    return [Document(str(row["text"]), str(row["id"]), str(row["url"])) for row in rows]


@pytest.fixture
def fineweb(online: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Clone]:
    """A project that is to train on all of a config, with the hub beside it."""
    clone = Clone(tmp_path / "clone")
    clone.set(data={"source": "fineweb", "documents": None}, runtime={"threads": 2})
    with hub.serving(*map(texts, range(FILES)), group=100) as endpoint:
        online.setenv("HF_ENDPOINT", endpoint)
        run(clone, "stages.download_fineweb")
        yield clone


def start(clone: Clone, module: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=clone.folder,
        env=environment() | {"PYTHONPATH": str(clone.folder / "src")},
        stderr=subprocess.PIPE,
        text=True,
    )


def run(clone: Clone, module: str) -> None:
    process = start(clone, module)
    _, told = process.communicate()
    assert process.returncode == 0, told


def made(clone: Clone) -> list[Path]:
    return sorted((clone.folder / "checkpoints/shards").glob("*/[0-9]*[0-9]"))


def contents(clone: Clone) -> dict[str, bytes]:
    files = [*(clone.folder / "data").rglob("*"), *(clone.folder / "metrics").rglob("*")]
    return {str(f.relative_to(clone.folder)): f.read_bytes() for f in files if f.is_file()}


def test_killed_and_started_again_with_more_processes_it_ends_in_the_same_bytes(
    fineweb: Clone, tmp_path: Path, documents: list[Document]
) -> None:
    helped = fineweb.copy(tmp_path / "helped")

    process = start(fineweb, "stages.tokenize")
    wait_for(lambda: made(fineweb))
    children = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not any(child.is_running() for child in children))  # none stays behind
    before = {path: path.stat().st_ctime_ns for path in made(fineweb)}
    assert 0 < len(before) < FILES

    fineweb.set(runtime={"threads": 3})
    process = start(fineweb, "stages.tokenize")
    wait_for(lambda: len(made(fineweb)) > len(before))
    psutil.Process(process.pid).children()[-1].kill()
    _, told = process.communicate()
    assert process.returncode == 1
    assert "error: tokenize: a process ended with exit code -9; the finished shards are" in told
    assert before.items() <= {p: p.stat().st_ctime_ns for p in made(fineweb)}.items()
    assert not (fineweb.folder / "data/tokens").exists()

    damaged = made(fineweb)[0] / "tokens.npy"
    damaged.write_bytes(damaged.read_bytes()[:-2] + b"no")
    fineweb.set(runtime={"threads": 1})
    run(fineweb, "stages.tokenize")
    helper = start(helped, "dropgpt.tokens.shards")  # as on a further machine
    wait_for(lambda: made(helped))
    run(helped, "stages.tokenize")
    assert helper.wait() == 0
    assert contents(fineweb) == contents(helped)
    late = start(fineweb, "dropgpt.tokens.shards")
    assert "data/tokens is there already, made with these parameters" in late.communicate()[1]
    assert not made(fineweb)

    encoded = encode_documents(documents, gpt2_encoding(), end_of_text=True)
    tensor.write(encoded, tmp_path / "one", N_VOCAB, 0.1)
    one, found = (tensor.read(path) for path in (tmp_path / "one", fineweb.folder / "data/tokens"))
    np.testing.assert_array_equal(found.tokens, one.tokens)
    assert found.n_train == one.n_train


@pytest.mark.slow
def test_sigkill_at_random_moments(fineweb: Clone, tmp_path: Path) -> None:
    undisturbed = fineweb.copy(tmp_path / "undisturbed")
    begin = time.monotonic()
    run(undisturbed, "stages.tokenize")
    seconds = time.monotonic() - begin
    moments = random.Random(1)
    for kill in range(8):
        fineweb.set(runtime={"threads": kill % 3 + 1})
        process = start(fineweb, "stages.tokenize")
        with suppress(subprocess.TimeoutExpired):
            process.wait(moments.uniform(0, 0.8 * seconds))
            break  # it has come to its end
        process.kill()
        process.wait()
    else:
        run(fineweb, "stages.tokenize")
    assert contents(fineweb) == contents(undisturbed)


def test_what_was_made_is_used_for_the_same_list_parameters_and_revision_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(shards, "DOCUMENTS", tmp_path / "documents.parquet")

    def fingerprint(listed: bytes = b"", **tokenize: Any) -> str:
        shards.DOCUMENTS.write_bytes(listed)
        data = {"source": "fineweb", "documents": None} | tokenize.pop("data", {})
        params = params_with(data=data, tokenize=tokenize)
        return shards._fingerprint(params.data, params.tokenize)

    different = [
        fingerprint(),
        fingerprint(b"another"),
        fingerprint(vocabulary_size=300),
        fingerprint(end_of_text=False),
        fingerprint(data={"revision": "main"}),
    ]
    assert len({*different}) == 5
    assert fingerprint(validation_fraction=0.5, data={"separator": None}) == different[0]


def test_a_shard_that_cannot_be_read_now_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, documents: list[Document]
) -> None:
    """As on another machine's disk; of one that is damaged see above."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(shards, "DOCUMENTS", tmp_path / "documents.parquet")
    monkeypatch.setattr(shards, "FOLDER", tmp_path / "shards")
    monkeypatch.setattr(shards, "_side_by_side", lambda *_: None)  # there is no hub
    params = params_with(data={"source": "fineweb", "documents": None})
    hub_shards.write([Shard("data/0.parquet", "1", 0, 1, 0, ROWS)], shards.DOCUMENTS)
    shard = shards.FOLDER / shards._fingerprint(params.data, params.tokenize) / "00000"
    tensor.write_shard(encode_documents(documents[:ROWS], gpt2_encoding(), True), shard)
    before = shard.stat().st_ino

    def refuse(path: Path) -> str:
        raise OSError(errno.ESTALE, "Stale file handle", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("dropgpt.machine.files.sha256", refuse)
        with pytest.raises(OSError, match="Stale"):
            shards.make(params.data, params.tokenize, params.runtime)
    assert shards.make(params.data, params.tokenize, params.runtime) == [shard]
    assert shard.stat().st_ino == before


def test_a_job_that_was_lent_two_cores_of_many_starts_two_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    monkeypatch.setattr(shards, "_side_by_side", lambda work, number, look: started.append(number))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {5, 6}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    monkeypatch.setattr(shards, "DOCUMENTS", tmp_path / "documents.parquet")
    monkeypatch.setattr(shards, "FOLDER", tmp_path / "shards")
    three = [Shard(f"data/{number}.parquet", "1", 0, 1, 0, ROWS) for number in range(3)]
    hub_shards.write(three, shards.DOCUMENTS)
    params = params_with(data={"source": "fineweb", "documents": None}, runtime={"threads": None})
    shards.make(params.data, params.tokenize, params.runtime)
    assert started == [2]


def test_a_machine_that_helps_says_in_a_line_why_it_ends(fineweb: Clone) -> None:
    def told(process: subprocess.Popen[str]) -> str:
        lines = process.communicate()[1].splitlines()
        assert process.returncode == 1
        assert [line for line in lines if not line.startswith("tokenize: ")] == lines[-1:]
        return lines[-1]

    process = start(fineweb, "dropgpt.tokens.shards")
    wait_for(lambda: made(fineweb))
    # Started with nohup, these tests and their processes are deaf to Ctrl-C.
    deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    number = signal.SIGTERM if deaf else signal.SIGINT
    process.send_signal(number)
    assert told(process) == f"error: make_shards: stopped by {number.name}"
    shutil.rmtree(fineweb.folder / "checkpoints")
    (fineweb.folder / "checkpoints").touch()
    line = told(start(fineweb, "dropgpt.tokens.shards"))
    assert line.startswith("error: a file stands where a folder is to be: ")
    fineweb.set(data={"documents": 1000})
    line = told(start(fineweb, "dropgpt.tokens.shards"))
    assert "only where it is fineweb or hub and data.documents is null" in line


def test_parameters_that_were_edited_meanwhile_cost_no_shard(fineweb: Clone) -> None:
    process = start(fineweb, "stages.tokenize")
    wait_for(lambda: [*fineweb.folder.glob("checkpoints/shards/*")])  # the parameters are read
    fineweb.set(tokenize={"validation_fraction": 0.2})
    _, told = process.communicate()
    assert "tokenize.validation_fraction changed while it ran" in told
    before = [(path / "tokens.npy").stat().st_ino for path in made(fineweb)]
    assert len(before) == FILES
    run(fineweb, "stages.tokenize")
    files = sorted((fineweb.folder / "data/tokens").glob("tokens-*"))
    assert [file.stat().st_ino for file in files] == before  # links to what had been made


@pytest.mark.slow  # the whole pipeline
def test_a_changed_shard_is_all_that_moves(
    fineweb: Clone, tmp_path: Path, online: pytest.MonkeyPatch
) -> None:
    """To DVC's remote."""
    storage = tmp_path / "storage"

    def stored() -> set[str]:
        return {"".join(path.parts[-2:]) for path in storage.rglob("*") if path.is_file()}

    def sums(*names: str) -> set[str]:
        return {md5((fineweb.folder / name).read_bytes()).hexdigest() for name in names}

    fineweb.dvc("remote", "add", "--default", "storage", str(storage))
    fineweb.dvc("repro")
    assert fineweb.summary()["loss"] < 12  # a model was trained and measured on them
    fineweb.dvc("push")
    before = stored()
    tokens = fineweb.folder / "data/tokens"
    files = [f"data/tokens/{file.name}" for file in tokens.glob("*-0*")]
    assert len(files) == 2 * FILES
    assert sums(*files) < before

    tables = [texts(file) for file in range(FILES)]
    tables[2][7]["text"] = "Another text."
    with hub.serving(*tables, group=100) as endpoint:
        online.setenv("HF_ENDPOINT", endpoint)
        process = start(fineweb, "stages.tokenize")
        told = process.communicate()[1]
        assert process.returncode == 1
        assert "000_00002.parquet is not the file that was listed; `dvc repro --force" in told
        fineweb.dvc("repro", "--force", "tokenize")
    fineweb.dvc("push")
    moved = {sum for sum in stored() - before if not sum.endswith(".dir")}
    changed = ["tokens-00002.npy", "documents-00002.parquet", "SHA256SUMS"]
    others = ["data/documents.parquet", "data/statistics.json"]
    assert moved == sums(*others, *(f"data/tokens/{name}" for name in changed))
