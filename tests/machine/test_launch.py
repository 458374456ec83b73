"""What is found out before processes start."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
