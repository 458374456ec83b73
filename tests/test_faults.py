"""What nights bring: a killed run, started again, ends in the bytes of one that never stopped.

tests/README.md lists what is tried here. Tests marked `slow` run with `make test-slow`.
"""

import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zc.lockfile

from clone import Clone, stages_run, wait_for
from conftest import needs_ctrl_c
from dropgpt.machine.repository import outputs
from dropgpt.training.checkpoint_files import read_metadata

TRAIN = ("repro", "--force", "--single-item", "train")
EXPERIMENT = ("exp", "run", "-S", "model.dropout=0.3", "-S", "train.steps=200", "train")
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone that has never been stopped: some seconds of training, a checkpoint at each step."""
    clone = Clone(tmp_path_factory.mktemp("whole"))
    clone.set(train={"steps": 80, "validation_interval": 30}, runtime={"checkpoint_interval": 0})
    clone.commit()
    clone.dvc("repro", "train")
    forget(clone)
    clone.commit()
    return clone


@pytest.fixture
def clone(whole: Clone, tmp_path: Path) -> Iterator[Clone]:
    """A copy of it, whose outputs are known and are to be made again."""
    clone = whole.copy(tmp_path / "clone")
    yield clone
    for process in clone.processes():
        process.kill()


def wait_for_a_save(clone: Clone) -> None:
    before = clone.saves()
    wait_for(lambda: clone.saves() - before)


def ended(dvc: "subprocess.Popen[str]") -> str:
    """What `dvc` has printed up to its end."""
    return dvc.communicate(timeout=120)[0]


def checkpoints(clone: Clone) -> list[str]:
    """Of trainings that have not ended; those of others stay until the stage evaluate begins."""
    folder = clone.folder / "checkpoints"
    whole = {path.stem for path in folder.glob("*.safetensors") if at_its_end(path)}
    files = [path for path in folder.iterdir() if path.is_file()]
    return sorted(path.name for path in files if path.stem not in whole)


def at_its_end(checkpoint: Path) -> bool:
    said = read_metadata(checkpoint)
    steps = json.loads(said["inputs"])["train"]["params"]["train"]["steps"]
    return said["step"] == str(steps)


def forget(clone: Clone) -> None:
    """Let trainings that have ended be made anew, as after the stage evaluate."""
    for path in (clone.folder / "checkpoints").glob("*.safetensors"):
        if at_its_end(path):
            path.unlink()


def finishes_in_the_same_bytes(clone: Clone, whole: Clone, *command: str) -> None:
    output = clone.dvc(*command)
    assert "going on after step" in output
    assert clone.outputs() == whole.outputs()
    assert clone.bytes() == whole.bytes()
    assert checkpoints(clone) == []


@slow
def test_sigkill_at_random_moments(clone: Clone, whole: Clone) -> None:
    moments = random.Random(20)
    kills = 0
    while kills < 20:
        dvc = clone.start(*TRAIN)
        (process,) = wait_for(clone.processes)
        time.sleep(moments.uniform(0, 9))  # from its first breath to after its end
        if process.is_running():
            process.kill()
            kills += 1
        ended(dvc)
        if dvc.returncode == 0:
            assert clone.outputs() == whole.outputs()
            forget(clone)
    clone.dvc(*TRAIN)
    assert clone.outputs() == whole.outputs()
    assert clone.bytes() == whole.bytes()
    assert checkpoints(clone) == []


@pytest.mark.parametrize("tries", [1, pytest.param(10, marks=slow)])
def test_sigkill_inside_the_saving(clone: Clone, whole: Clone, tries: int) -> None:
    torn = 0
    while torn < tries:
        dvc = clone.start(*TRAIN)
        wait_for_a_save(clone)
        partial = wait_for(lambda: next((clone.folder / "checkpoints").glob("*-partial"), None))
        for process in clone.processes():
            process.kill()
        ended(dvc)
        torn += partial.exists()  # else it came a moment too late
    finishes_in_the_same_bytes(clone, whole, *TRAIN)


Target = Callable[[Clone, "subprocess.Popen[str]", int], None]


def by_name(value: Any) -> str:
    return getattr(value, "name", None) or str(value.__name__)


def to_trainer(clone: Clone, dvc: "subprocess.Popen[str]", number: int) -> None:
    clone.processes()[0].send_signal(number)


def to_dvc(clone: Clone, dvc: "subprocess.Popen[str]", number: int) -> None:
    dvc.send_signal(number)


def to_group(clone: Clone, dvc: "subprocess.Popen[str]", number: int) -> None:
    os.killpg(dvc.pid, number)


@slow
@pytest.mark.parametrize(
    ("number", "target"),
    [
        (signal.SIGTERM, to_trainer),
        (signal.SIGTERM, to_dvc),
        (signal.SIGTERM, to_group),
        (signal.SIGINT, to_group),
        (signal.SIGHUP, to_group),
        (signal.SIGKILL, to_dvc),
        (signal.SIGKILL, to_group),
    ],
    ids=by_name,
)
def test_a_signal(clone: Clone, whole: Clone, number: int, target: Target) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("these tests were started with nohup, and so are their processes")
    for _ in range(3):
        dvc = clone.start(*TRAIN)
        wait_for_a_save(clone)
        time.sleep(random.random())
        target(clone, dvc, number)
        ended(dvc)
        wait_for(lambda: not clone.processes(), seconds=15)  # no trainer stays behind
        if number != signal.SIGKILL or target is to_dvc:
            assert clone.bytes().keys() == whole.bytes().keys()  # the earlier results are back
    finishes_in_the_same_bytes(clone, whole, *TRAIN)


@needs_ctrl_c
@pytest.mark.parametrize("pause", [0.05, pytest.param(0.5, marks=slow)])
def test_a_second_ctrl_c_leaves_the_last_outputs_there(
    clone: Clone, whole: Clone, pause: float
) -> None:
    dvc = clone.start(*TRAIN)
    wait_for_a_save(clone)
    for _ in range(3):
        os.killpg(dvc.pid, signal.SIGINT)
        time.sleep(pause)
    said = ended(dvc)
    assert "Traceback" not in said
    assert clone.bytes().keys() == whole.bytes().keys()
    finishes_in_the_same_bytes(clone, whole, *TRAIN)


def test_what_a_stage_made_while_another_command_held_dvc_s_lock_is_not_lost(
    clone: Clone, whole: Clone
) -> None:
    """DVC waits three seconds for its lock, and fails; docs/recovery.md says how to go on."""
    dvc = clone.start(*TRAIN)
    wait_for_a_save(clone)
    lock = zc.lockfile.LockFile(str(clone.folder / ".dvc/tmp/lock"))  # as `dvc push` would hold it
    try:
        said = ended(dvc)
    finally:
        lock.close()
    assert dvc.returncode != 0
    assert "Unable to acquire lock" in said
    clone.dvc("commit", "--force", "train")
    assert stages_run(clone.dvc("repro", "train")) == []
    assert clone.outputs() == whole.outputs()
    assert clone.bytes() == whole.bytes()


@pytest.mark.parametrize("where", [[], ["--temp"]], ids=["workspace", "temp"])
def test_a_training_that_dvc_could_not_take_into_its_cache_is_not_lost(
    clone: Clone, whole: Clone, where: list[str]
) -> None:
    """As on a full disk: the cache holds everything a second time."""
    command = (*EXPERIMENT, *where)
    cache = clone.folder / ".dvc/cache/files/md5"
    dvc = clone.start(*command)
    wait_for_a_save(clone)
    cache.rename(cache.with_name("away"))
    cache.touch()  # in which nothing can be put
    assert "failed to reproduce 'train'" in ended(dvc)
    cache.unlink()
    cache.with_name("away").rename(cache)
    assert "going on after step 200 of 200" in clone.dvc(*command)
    made = last_experiment(clone)
    forget(clone)
    clone.dvc("exp", "remove", "--all-commits")
    assert "going on" not in clone.dvc(*command)
    assert last_experiment(clone) == made != whole.outputs()


@slow
def test_a_checkpoint_is_not_for_another_training(clone: Clone, whole: Clone) -> None:
    dvc = clone.start(*TRAIN)
    wait_for_a_save(clone)
    os.killpg(dvc.pid, signal.SIGTERM)
    ended(dvc)
    wait_for(lambda: not clone.processes())
    (kept,) = [name for name in checkpoints(clone) if name.endswith(".safetensors")]
    loss = clone.folder / "src/dropgpt/model/loss.py"
    code = loss.read_text()
    corpus = clone.folder / "corpora/0.txt"
    text = corpus.read_text()
    for change in (
        lambda: clone.set(model={"dropout": 0.3}),
        lambda: clone.set(model={"dropout": 0.1}, train={"seed": 2}),
        lambda: (clone.set(train={"seed": 1}), loss.write_text(code + "# other\n")),
        lambda: (loss.write_text(code), corpus.write_text(text.replace("cat", "cow"))),
    ):
        change()
        assert "going on after step" not in clone.dvc("repro", "train")
        assert kept in checkpoints(clone)
    corpus.write_text(text)
    clone.dvc("repro", "tokenize")
    finishes_in_the_same_bytes(clone, whole, *TRAIN)


@pytest.fixture(scope="module")
def whole_experiment(whole: Clone, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The outputs of an experiment that has never been stopped."""
    clone = whole.copy(tmp_path_factory.mktemp("experiment") / "clone")
    clone.dvc(*EXPERIMENT)
    return clone.outputs()


@slow
@pytest.mark.parametrize(
    ("number", "target"),
    [(signal.SIGKILL, to_trainer), (signal.SIGTERM, to_dvc), (signal.SIGINT, to_group)],
    ids=by_name,
)
@pytest.mark.parametrize("where", [[], ["--temp"]], ids=["workspace", "temp"])
def test_an_experiment(
    clone: Clone,
    whole: Clone,
    whole_experiment: dict[str, str],
    where: list[str],
    number: int,
    target: Target,
) -> None:
    for _ in range(3):
        dvc = clone.start(*EXPERIMENT, *where)
        wait_for_a_save(clone)
        target(clone, dvc, number)
        ended(dvc)
        wait_for(lambda: not clone.processes(), seconds=15)
    assert "going on after step" in clone.dvc(*EXPERIMENT, *where)
    assert last_experiment(clone) == whole_experiment != whole.outputs()
    assert checkpoints(clone) == []


def kill_trainer(clone: Clone, task: str) -> None:
    clone.processes()[0].kill()


def kill_task(clone: Clone, task: str) -> None:
    clone.dvc("queue", "kill", task)


def kill_task_by_force(clone: Clone, task: str) -> None:
    clone.dvc("queue", "kill", "--force", task)


@slow
@pytest.mark.parametrize("kill", [kill_trainer, kill_task, kill_task_by_force], ids=by_name)
def test_an_experiment_in_the_queue(
    clone: Clone, whole_experiment: dict[str, str], kill: Callable[[Clone, str], None]
) -> None:
    for _ in range(3):
        task = start_in_queue(clone)
        wait_for_a_save(clone)
        kill(clone, task)
        wait_for(lambda: "Failed" in clone.dvc("queue", "status"))
        wait_for(lambda: not clone.processes(), seconds=15)
        clone.dvc("queue", "remove", "--failed")
    task = start_in_queue(clone)
    wait_for(lambda: "Success" in clone.dvc("queue", "status"))
    assert "going on after step" in clone.dvc("queue", "logs", task)
    assert last_experiment(clone) == whole_experiment
    assert checkpoints(clone) == []


def start_in_queue(clone: Clone) -> str:
    """Start the experiment in the queue; its name there."""
    queued = re.search(r"Queued experiment '(\S+)'", clone.dvc(*EXPERIMENT, "--queue"))
    assert queued
    clone.start_queue()
    return queued[1]


def last_experiment(clone: Clone) -> dict[str, str]:
    (ref,) = clone.git("for-each-ref", "--format=%(refname)", "refs/exps/*/*/*").stdout.split()
    return outputs(clone.git("show", f"{ref}:dvc.lock").stdout)


@slow
@pytest.mark.parametrize("stage", ["download_fineweb", "tokenize", "evaluate", "sample"])
def test_sigkill_in_another_stage(clone: Clone, whole: Clone, stage: str) -> None:
    """It starts over: each takes seconds on the default corpus."""
    clone.dvc("repro")
    clone.commit()
    whole_outputs, whole_bytes = clone.outputs(), clone.bytes()
    lock = clone.folder / "dvc.lock"
    whole_lock = lock.read_text()
    moments = random.Random(stage)
    for _ in range(5):
        dvc = clone.start("repro", "--force", "--single-item", stage)
        wait_for(clone.processes)
        time.sleep(moments.uniform(0, 3))
        os.killpg(dvc.pid, signal.SIGKILL)
        ended(dvc)
        if lock.read_text() != whole_lock:  # it was just being written: docs/recovery.md
            clone.git("checkout", "dvc.lock")
    clone.dvc("repro", "--force", "--single-item", stage)
    assert clone.outputs() == whole_outputs
    assert clone.bytes() == whole_bytes
