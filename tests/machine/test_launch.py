"""What is found out before processes start."""

import socket
from typing import Any

import pytest

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
