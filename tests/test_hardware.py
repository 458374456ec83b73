import pytest
import torch

from conftest import params_with
from dropgpt.errors import UserError
from dropgpt.hardware import compute_dtype, prepare


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match=r"runtime\.device is cuda:77, and torch finds no such"):
        prepare(params_with(runtime={"device": "cuda:77"}).runtime)


def test_auto_takes_what_is_there() -> None:
    device = prepare(params_with(runtime={"device": "auto"}).runtime)
    assert torch.zeros(1, device=device).device.type == device.type
    assert torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("has", [True, False])
def test_bfloat16_only_where_the_hardware_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, has: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has})
    cpu = torch.device("cpu")
    assert compute_dtype("auto", cpu) == (torch.bfloat16 if has else torch.float32)
    assert compute_dtype("float32", cpu) == torch.float32
    assert compute_dtype("bfloat16", cpu) == torch.bfloat16
