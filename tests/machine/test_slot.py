import os
import platform
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import cuda
from dropgpt.machine.interruption import Interrupted, listen
from dropgpt.machine.slot import name, slot

HOLD = """
import sys, time, torch
from pathlib import Path
from dropgpt.machine.slot import slot
with slot(torch.device(sys.argv[1]), Path(sys.argv[2])):
    print("taken", flush=True)
    time.sleep(float(sys.argv[3]))
"""


def other_job(device: str, folder: Path, seconds: float = 60) -> subprocess.Popen[str]:
    """A process that holds a slot."""
    command = [sys.executable, "-c", HOLD, device, str(folder), str(seconds)]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert job.stdout
    assert job.stdout.readline() == "taken\n"
    return job


def test_a_job_waits_for_its_turn_and_takes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with other_job("cuda:0", tmp_path, seconds=1), slot(torch.device("cuda"), tmp_path):
        assert "cuda is taken by other jobs" in capsys.readouterr().err
    with slot(torch.device("cuda"), tmp_path), slot(torch.device("cuda:1"), tmp_path):
        assert capsys.readouterr().err == ""  # given back, and another GPU is another slot


def test_a_gpu_is_the_same_one_whatever_a_job_may_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Number 1 of all is the first of a job that sees it alone."""
    with slot(torch.device("cuda:0"), tmp_path):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
        with slot(torch.device("cuda"), tmp_path):
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
            assert name(torch.device("cuda:1")) == f"{platform.node()}-cuda-1"
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, MIG-GPU-5a/1/0")
            assert name(torch.device("cuda:1")) == f"{platform.node()}-cuda-MIG-GPU-5a-1-0"
            with slot(torch.device("cuda:1"), tmp_path):
                pass


def test_a_gpu_has_its_own_name_where_torch_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm calls that of each job 0; a slice of one is called as CUDA_VISIBLE_DEVICES has it."""
    cuda.stand_in(monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert name(torch.device("cuda:1")) == f"{platform.node()}-cuda-the-gpu-1"
    own = SimpleNamespace(uuid="5a")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: own)
    assert name(torch.device("cuda:0")) == f"{platform.node()}-cuda-5a"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-5a")
    assert name(torch.device("cuda")) == f"{platform.node()}-cuda-MIG-5a"


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_machines_that_share_the_folder_do_not_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("waits", pytrace=False))
    with other_job(device, tmp_path) as job:
        monkeypatch.setattr(platform, "node", lambda: "another")
        with slot(torch.device(device), tmp_path):
            job.kill()


def test_a_killed_job_gives_its_slot_back(tmp_path: Path) -> None:
    with other_job("cpu", tmp_path) as job:
        job.kill()
    with slot(torch.device("cpu"), tmp_path):
        pass


@pytest.mark.parametrize(("cores", "jobs"), [(2, 1), (4, 2), (9, 4), (1, 1)])
def test_a_cpu_serves_as_many_jobs_as_it_has_cores_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cores: int, jobs: int
) -> None:
    monkeypatch.setattr("dropgpt.machine.threads.CORES", cores)
    monkeypatch.setattr("dropgpt.machine.threads.number", lambda: 2)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("waits", pytrace=False))

    def take(more: int) -> None:
        if more:
            with slot(torch.device("cpu"), tmp_path):
                take(more - 1)

    take(jobs)
    with pytest.raises(pytest.fail.Exception, match="waits"):
        take(jobs + 1)


@pytest.mark.parametrize(("theirs", "ours", "waits"), [(8, 4, True), (4, 4, False), (5, 4, True)])
def test_jobs_share_the_cores_by_their_threads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, theirs: int, ours: int, waits: bool
) -> None:
    monkeypatch.setattr("dropgpt.machine.threads.CORES", 8)
    monkeypatch.setattr("dropgpt.machine.threads.number", lambda: numbers.pop(0))
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("waits", pytrace=False))
    for of_two in ((theirs, ours), (ours, theirs)):
        numbers = list(of_two)
        expected = pytest.raises(pytest.fail.Exception, match="waits") if waits else nullcontext()
        with expected, slot(torch.device("cpu"), tmp_path), slot(torch.device("cpu"), tmp_path):
            pass


@pytest.mark.usefixtures("handlers_put_back")
def test_a_job_that_waits_can_be_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Not the sleep of other threads, which would be stopped before anything waits.
    sleep = SimpleNamespace(sleep=lambda seconds: os.kill(os.getpid(), signal.SIGTERM))
    monkeypatch.setattr("dropgpt.machine.slot.time", sleep)
    listen()
    with other_job("cuda", tmp_path) as job:
        with pytest.raises(Interrupted, match="SIGTERM"), slot(torch.device("cuda"), tmp_path):
            pytest.fail("the slot is taken")
        job.kill()
