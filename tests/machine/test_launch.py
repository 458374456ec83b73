"""What is found out before processes start."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import Mock

import pytest
import torch

import cuda
from conftest import ROOT
from dropgpt.errors import UserError
from dropgpt.machine.launch import launch
from dropgpt.params import load

RUNTIME = load(ROOT / "params.yaml").runtime


@pytest.mark.parametrize("address", ["127.0.1.1", "::1", None])
def test_a_machine_that_others_cannot_find_says_so(
    monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    def of_name(name: str, port: None) -> Any:
        assert name == "node7"
        if address is None:
            raise socket.gaierror
        return [(0, 0, 0, "", (address, 0))]

    monkeypatch.setattr(socket, "gethostname", lambda: "node7")
    monkeypatch.setattr(socket, "getaddrinfo", of_name)
    monkeypatch.setenv("PET_NNODES", "1:2")
    monkeypatch.setenv("PET_RDZV_ENDPOINT", "node7:29400")
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    with pytest.raises(UserError, match=r"its name, node7, has .* set GLOO_SOCKET_IFNAME"):
        launch("stages.train", RUNTIME)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"NNODES": "2"}, "PET_RDZV_ENDPOINT, the place where the machines meet, is not set"),
        ({"NPROC_PER_NODE": "2"}, "PET_NPROC_PER_NODE is 2, and runtime.processes of .* is 1"),
    ],
)
def test_settings_of_torchrun_that_would_not_be_followed_are_told(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], said: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"PET_{name}", value)
    with pytest.raises(UserError, match=said):
        launch("stages.train", RUNTIME)


@pytest.mark.parametrize(
    ("settings", "alone"),
    [
        ({}, True),
        ({"NPROC_PER_NODE": "1"}, True),
        ({"NNODES": "2", "RDZV_ENDPOINT": "localhost:29400"}, False),
        ({"NNODES": "2", "MASTER_ADDR": "127.0.0.1", "NODE_RANK": "0"}, False),
    ],
)
def test_torchrun_is_asked_for_what_its_settings_leave_open(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], alone: bool
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"PET_{name}", value)
    monkeypatch.setattr("torch.distributed.run.run", run := Mock())
    monkeypatch.setattr("logging.Logger.setLevel", lambda *_: None)
    for name in ("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # so that it is put back
    launch("stages.train", RUNTIME)
    asked = run.call_args.args[0]
    assert (asked.standalone, asked.nproc_per_node) == (alone, "1")
    assert asked.shutdown_timeout == 300  # seconds: a step, and a checkpoint to a slow disk


def test_one_process_takes_the_turn_of_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda.stand_in(monkeypatch)
    turns: list[str] = []

    @contextmanager
    def turn(device: torch.device) -> Iterator[None]:
        turns.append(str(device))
        yield

    monkeypatch.setattr("dropgpt.machine.slot.slot", turn)
    monkeypatch.setattr("torch.distributed.run.run", lambda arguments: None)
    monkeypatch.setattr("logging.Logger.setLevel", lambda *_: None)
    for name in ("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # so that it is put back
    launch("stages.train", RUNTIME.model_copy(update={"device": "cuda:1", "processes": 1}))
    assert turns == ["cuda:1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,2")
    launch("stages.train", RUNTIME.model_copy(update={"device": "cuda", "processes": 2}))
    assert turns[1:] == ["cuda:1", "cuda:0"]  # in the order that all jobs have
