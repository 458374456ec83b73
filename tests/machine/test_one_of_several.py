"""Several processes, where one of them fails."""

import subprocess
import sys
from unittest.mock import Mock

import pytest
import torch
import torch.distributed as dist

import cuda
from clone import environment
from conftest import ROOT
from dropgpt.machine.interruption import Interrupted
from dropgpt.machine.memory import out_of_memory
from dropgpt.machine.processes import SHOWN, any_of, together


@pytest.mark.parametrize("gpus", [0, 2])
def test_one_that_fails_alone_does_not_wait_for_the_others(
    monkeypatch: pytest.MonkeyPatch, gpus: int
) -> None:
    """NCCL would, in destroy_process_group: until torchrun's time has passed, four times."""
    cuda.stand_in(monkeypatch, gpus)
    monkeypatch.setattr(dist, "init_process_group", Mock())
    monkeypatch.setattr(dist, "destroy_process_group", destroy := Mock())
    with together():
        assert not destroy.called
    assert destroy.call_count == 1
    with pytest.raises(OSError, match="disk"), together():
        raise OSError("disk")
    assert destroy.call_count == (1 if gpus else 2)


@pytest.mark.parametrize("why", ["RuntimeError('NCCL')", "None"])
def test_a_process_that_is_not_the_first_says_what_only_it_knows(why: str) -> None:
    """The first one knows of a signal alone: torchrun's, when a process has ended."""
    code = f"""
import stages
from contextlib import nullcontext
from dropgpt.machine.interruption import Interrupted
stages._together = nullcontext
def train(params):
    raise Interrupted("the end of another process") from {why}
stages.run(train)
"""
    told = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment() | told | {"TORCHELASTIC_RUN_ID": "one"},
        capture_output=True,
        text=True,
    )
    line = "error: train: stopped by the end of another process\n"
    assert (done.returncode, done.stderr) == (1, "" if why == "None" else line)


def test_what_a_gpu_did_before_is_not_the_end_of_another_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dropgpt.machine.processes.number", lambda: 2)
    said = f"No space left on device in /dev/shm {'x' * SHOWN} of NCCL"
    for error, kind in (
        (RuntimeError(said), Interrupted),
        (torch.AcceleratorError("an illegal memory access"), torch.AcceleratorError),
    ):
        monkeypatch.setattr(dist, "all_reduce", Mock(side_effect=error))
        with pytest.raises(kind) as told:
            any_of(True)
    assert "illegal" in str(told.value)
    monkeypatch.setattr(dist, "all_reduce", Mock(side_effect=RuntimeError(said)))
    with pytest.raises(Interrupted, match=r"or of the way to it \(No space left .* of NCCL\)$"):
        any_of(True)


def test_a_gpu_that_is_full_is_known_by_what_cublas_says() -> None:
    said = "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"
    assert out_of_memory(RuntimeError(said))
    assert not out_of_memory(RuntimeError("CUBLAS_STATUS_NOT_INITIALIZED when calling another"))
