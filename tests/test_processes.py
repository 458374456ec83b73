"""Several processes, started by torchrun: the numbers of one, and what may befall them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import torch

from clone import Clone, environment, wait_for
from conftest import ROOT

TRAIN = ("repro", "--force", "--single-item", "train")
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """What one process makes; float32, so that only the order of sums may differ."""
    clone = Clone(tmp_path_factory.mktemp("one"))
    clone.set(
        train={"steps": 40, "batch_size": 5, "validation_interval": 15, "precision": "float32"}
        | {"token_replacement": 0.1},
        # Of GPUs a machine may have fewer than processes.
        runtime={"device": "cpu", "threads": 1, "checkpoint_interval": 0},
    )
    clone.dvc("repro", "evaluate")
    clone.commit()
    return clone


@pytest.fixture
def clone(one: Clone, tmp_path: Path) -> Iterator[Clone]:
    clone = one.copy(tmp_path / "clone")
    yield clone
    for process in [*clone.processes(), *workers(clone)]:
        process.kill()


def workers(clone: Clone) -> list[psutil.Process]:
    """The processes that torchrun has started in `clone`."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            a_stage = process.cmdline()[1:3] == ["-u", "-m"]
            if a_stage and Path(process.cwd()).is_relative_to(clone.folder):
                found.append(process)
    return found


def in_training(clone: Clone, number: int) -> list[psutil.Process]:
    """The `number` workers, once they have saved a state."""
    before = clone.saves()
    return wait_for(
        lambda: clone.saves() - before and len(found := workers(clone)) == number and found
    )


def curves_agree(clone: Clone, one: Clone) -> None:
    """Losses in nats, learning rates and gradients' norms."""
    for name in ("training", "validation"):
        found, expected = (pd.read_csv(c.folder / f"metrics/{name}.csv") for c in (clone, one))
        pd.testing.assert_frame_equal(found, expected, rtol=0, atol=1e-5, check_exact=False)


def made_in(clone: Clone, stage: str, folder: str) -> Any:
    return clone.json(f"{folder}/provenance.json")[stage]["environment"].get("processes")


@pytest.mark.parametrize("number", [2, pytest.param(4, marks=slow)])
def test_several_processes_find_what_one_finds(clone: Clone, one: Clone, number: int) -> None:
    """Each window has masks and replaced tokens of its own, whichever process reads it."""
    clone.set(runtime={"processes": number})
    output = clone.dvc("repro", "--force", "evaluate")
    assert output.count("nats a token: models/gpt") == 1
    curves_agree(clone, one)
    assert made_in(clone, "train", "models/gpt") == number
    ours, theirs = clone.summary(), one.summary()
    for name in ("loss", "loss_dropout_on", "bits_per_byte_of_text"):
        assert ours[name] == pytest.approx(theirs[name], abs=1e-6)
    assert not workers(clone)


@pytest.mark.parametrize("sharded", [True, pytest.param(False, marks=slow)])
def test_evaluation_gives_the_very_same_number(clone: Clone, one: Clone, sharded: bool) -> None:
    clone.set(runtime={"processes": 2, "shard_weights": sharded})
    clone.dvc("repro", "--force", "--single-item", "evaluate")
    assert made_in(clone, "evaluate", "data/evaluation") == 2
    assert clone.summary() == one.summary()


@slow
def test_a_killed_process_is_started_again(clone: Clone, tmp_path: Path) -> None:
    clone.set(runtime={"processes": 2})
    clone.commit()
    whole = clone.copy(tmp_path / "whole")
    whole.dvc(*TRAIN)
    dvc = clone.start(*TRAIN)
    in_training(clone, 2)[1].kill()
    output = dvc.communicate(timeout=300)[0]
    assert dvc.returncode == 0, output
    assert "train: a process has failed, all begin again" in output
    assert "going on after step" in output
    assert "Traceback" not in output
    assert clone.bytes() == whole.bytes()


@slow
@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_another_number_of_processes_goes_on(
    clone: Clone, one: Clone, first: int, then: int
) -> None:
    clone.set(runtime={"processes": first})
    dvc = clone.start(*TRAIN)
    wait_for(clone.saves)
    dvc.terminate()
    output = dvc.communicate(timeout=300)[0]
    assert output.count("saved: the same command goes on from there") == 1, output
    wait_for(lambda: not clone.processes() + workers(clone))
    clone.set(runtime={"processes": then})
    assert "going on after step" in clone.dvc(*TRAIN)
    curves_agree(clone, one)
    assert made_in(clone, "train", "models/gpt") == [first, then]
    assert len(clone.saves()) == 1  # the last state, until the stage evaluate begins


@slow
def test_nobody_stays_behind(clone: Clone) -> None:
    clone.set(runtime={"processes": 2})
    dvc = clone.start(*TRAIN)
    in_training(clone, 2)
    for process in clone.processes():
        process.kill()
    dvc.wait(timeout=300)
    wait_for(lambda: not workers(clone))


@slow
def test_a_mistake_is_told_once_and_not_tried_again(clone: Clone) -> None:
    clone.set(runtime={"processes": 3}, train={"batch_size": 2})
    output = clone.dvc(*TRAIN, ok=False)
    errors = [line for line in output.splitlines() if line.startswith("error:")]
    assert errors == [
        "error: params.yaml: train.batch_size is 2, less than the 3 processes that share a batch: "
        "lower runtime.processes"
    ]
    assert "Traceback" not in output


@slow
def test_damaged_tokens_are_told_once(clone: Clone) -> None:
    """Though one process of each machine looks."""
    tokens = clone.folder / "data/tokens/tokens.npy"
    tokens.write_bytes(tokens.read_bytes()[:-1] + b"?")
    clone.set(runtime={"processes": 2})
    said = clone.run(sys.executable, "-m", "stages.train", ok=False).stderr
    (line,) = [line for line in said.splitlines() if line.startswith("error:")]
    assert "data/tokens is damaged: tokens.npy is not what tokenize wrote there" in line
    assert "Traceback" not in said


def meeting_place() -> dict[str, str]:
    """torchrun's settings for up to two machines."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    return {"NNODES": "1:2", "RDZV_BACKEND": "c10d", "RDZV_ENDPOINT": place, "RDZV_ID": "two"}


def of_torchrun(meeting: dict[str, str]) -> dict[str, str]:
    return environment() | {f"PET_{name}": value for name, value in meeting.items()}


@slow
def test_machines_that_do_not_find_each_other_are_told_in_a_line(clone: Clone) -> None:
    alone = of_torchrun(meeting_place() | {"RDZV_CONF": "is_host=0"})
    command = [sys.executable, "-m", "stages.train"]
    done = subprocess.run(command, cwd=clone.folder, env=alone, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the machines do not find each other at 127.0.0.1:")
    assert done.stderr.count("\n") == 1


@slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_machine_is_lost(clone: Clone, one: Clone, how: signal.Signals) -> None:
    """Two machines, as two torchruns: one is killed whole, and the other goes on alone.

    Or it falls silent, as by the loss of power or network.
    """
    code = clone.folder / "src/dropgpt/machine/processes.py"
    code.write_text(code.read_text().replace("timedelta(minutes=30)", "timedelta(seconds=10)"))
    meeting = meeting_place()
    machines = []
    silent: list[psutil.Process] = []
    for number in range(2):
        meeting["RDZV_CONF"] = f"is_host={1 - number}"  # which of the two keeps the meeting place
        machines.append(
            subprocess.Popen(
                [sys.executable, "-m", "stages.train"],
                cwd=clone.folder,
                env=of_torchrun(meeting),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        time.sleep(1)
    try:
        in_training(clone, 2)
        lost = psutil.Process(machines[1].pid)
        if how == signal.SIGSTOP:
            silent = lost.children(recursive=True)
        for process in [*silent, lost]:
            process.send_signal(how)
        output = machines[0].communicate(timeout=300)[0]
        assert machines[0].returncode == 0, output
    finally:
        for machine in machines:
            machine.kill()
        for process in silent:
            process.kill()
    curves_agree(clone, one)
    assert json.dumps(made_in(clone, "train", "models/gpt")) == "[2, 1]"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_weights_sharded_over_a_single_gpu(clone: Clone, tmp_path: Path) -> None:
    clone.set(model={"dropout": 0.0}, train={"compile": False}, runtime={"device": "cuda"})
    whole = clone.copy(tmp_path / "whole")
    whole.dvc(*TRAIN)
    clone.set(runtime={"shard_weights": True})
    clone.dvc(*TRAIN)
    curves_agree(clone, whole)


UNTIED = """
import torch, torch.distributed as dist
from conftest import tiny_model
from dropgpt.evaluation import losses, plan
from dropgpt.model.gpt import GPT, Variant
from dropgpt.model.sharding import shard
import numpy as np
dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
model = GPT(tiny_model(), 300, Variant(tied_head=False)).eval()
ids = np.arange(100, dtype=np.uint16)
measured = plan(np.array([100]), 16, 8)
whole = losses(model, ids, measured, 4)
shard(model, torch.device("cpu"))
assert (losses(model, ids, measured, 4) == whole).all()
"""


def test_a_head_of_its_own_is_measured_with_sharded_weights_too() -> None:
    """As a GPT-2 from elsewhere may have one."""
    command = [sys.executable, "-c", UNTIED]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": "tests"}, cwd=ROOT)


@slow
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_sharded_weights_find_what_whole_ones_find(
    clone: Clone, tmp_path: Path, optimizer: str
) -> None:
    """FSDP2: killed in the middle, too, and gone on with by a process that holds them whole."""
    clone.set(
        train={"optimizer": optimizer, "batch_size": 6, "micro_batch_size": 2},
        runtime={"processes": 2, "shard_weights": True},
    )
    whole = clone.copy(tmp_path / "whole")
    whole.set(runtime={"processes": 1, "shard_weights": False})
    whole.dvc(*TRAIN)
    dvc = clone.start(*TRAIN)
    in_training(clone, 2)[0].kill()
    output = dvc.communicate(timeout=300)[0]
    assert dvc.returncode == 0, output
    assert "going on after step" in output
    curves_agree(clone, whole)


def test_a_part_of_what_torchrun_tells_makes_no_several_processes(tmp_path: Path) -> None:
    """As of a launcher that has ended: the stage says itself what is wrong."""
    found = subprocess.run(
        [sys.executable, "-m", "stages.sample"],
        cwd=tmp_path,
        env=environment() | {"PYTHONPATH": str(ROOT), "TORCHELASTIC_RUN_ID": "one"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 1
    assert found.stderr == "error: dvc.yaml: no such file; run from the project's root\n"
