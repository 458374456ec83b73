import platform
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

import cuda
from conftest import ROOT, needs_fork, second_of_two
from dropgpt.errors import UserError
from dropgpt.machine.hardware import compute_dtype, environment, peak_flops, prepare


@pytest.mark.parametrize("name", ["cuda:77", "cuda:128"])  # torch has 128 for -128
def test_a_device_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(UserError, match=rf"runtime\.device is {name}, and torch finds no such"):
        prepare(name)


@pytest.mark.parametrize(
    ("capability", "serves"), [((7, 0), False), ((7, 5), True), ((12, 0), True)]
)
def test_a_gpu_for_which_torch_has_no_kernels_is_told(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], serves: bool
) -> None:
    cuda.stand_in(monkeypatch, capability=capability)
    if serves:
        assert prepare().type == "cuda"
        return
    with pytest.raises(UserError, match=r"H100 .* is too old for this torch, 2.*: put `CUDA"):
        prepare()


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("The NVIDIA driver on your system is too old (found version 11040).\nPlease"),
        AssertionError("The NVIDIA driver on your system is too old (found version 11040)."),
    ],
)
def test_cuda_that_does_not_start_is_told(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    cuda.stand_in(monkeypatch)
    monkeypatch.setattr(torch.cuda, "init", Mock(side_effect=error))
    with pytest.raises(UserError) as told:
        prepare("cuda:1")
    assert str(told.value) == (
        "params.yaml: runtime.device is cuda:1, and CUDA does not start: The NVIDIA driver on your "
        "system is too old (found version 11040)."
    )


def test_a_device_counts_that_cuda_can_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two GPUs in slices it takes the first; before it has started, torch says two."""
    cuda.stand_in(monkeypatch)
    one = partial(monkeypatch.setattr, torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "init", one)
    with pytest.raises(UserError, match=r"runtime\.device is cuda:1, and torch finds no such"):
        prepare("cuda:1")


def test_a_device_is_called_as_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two processes where there is one GPU."""
    cuda.stand_in(monkeypatch, gpus=1)
    second_of_two(monkeypatch)
    with pytest.raises(UserError, match=r"runtime\.device is auto, and torch finds no cuda:1"):
        prepare("auto")


def test_auto_is_no_device_that_no_test_walks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert prepare().type == "cpu"
    assert prepare("mps").type == "mps"


def test_float32_is_float32_whatever_a_container_says() -> None:
    said = {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1", "PYTHONPATH": str(ROOT / "src")}
    code = (
        "import torch; from dropgpt.machine.hardware import prepare; print(prepare('cpu'), "
        "torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32)"
    )
    found = subprocess.check_output([sys.executable, "-c", code], env=said, text=True)
    assert found.split() == ["cpu", "highest", "False"]


@pytest.mark.parametrize("name", ["cuda:1", "mps"])
def test_several_processes_do_not_share_a_gpu(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    second_of_two(monkeypatch)
    with pytest.raises(UserError, match=f"is {name}, where several processes cannot work"):
        prepare(name)


@pytest.mark.parametrize(("name", "index"), [("auto", 0), ("cuda", 0), ("cuda:1", 1)])
def test_what_the_user_of_a_gpu_meets_first(
    monkeypatch: pytest.MonkeyPatch, threads: Callable[[int], None], name: str, index: int
) -> None:
    chosen = cuda.stand_in(monkeypatch)
    device = prepare(name)
    assert device == torch.device("cuda", index)
    assert chosen == [index]
    dtype = compute_dtype("auto", device)
    assert environment(device, dtype)["device"] == f"cuda: {cuda.H100}"
    assert "shard_weights" not in environment(device, dtype)
    assert environment(device, dtype, shard_weights=True)["shard_weights"] is True
    assert peak_flops(device, dtype) == 989e12
    assert peak_flops(device, torch.float32) is None


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA RTX A1000", None),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA GH200 480GB", 989e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40", 181e12),
        ("Tesla T4", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA H200 NVL", None),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
    ],
)
def test_the_peak_of_a_gpu_is_known_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, peak: float | None
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert peak_flops(torch.device("cuda:0"), torch.bfloat16) == peak


def test_each_of_several_processes_has_a_gpu(
    monkeypatch: pytest.MonkeyPatch, threads: Callable[[int], None]
) -> None:
    chosen = cuda.stand_in(monkeypatch)
    second_of_two(monkeypatch)
    assert prepare("auto") == torch.device("cuda:1")
    assert chosen == [1]


def test_a_gpu_without_its_number_is_refused_by_the_stand_in_as_by_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda.stand_in(monkeypatch)
    with pytest.raises(ValueError, match="index"):
        torch.cuda.set_device(torch.device("cuda"))


def test_auto_takes_what_is_there() -> None:
    device = prepare()
    assert torch.zeros(1, device=device).device.type == device.type
    assert torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("name", "instructions", "quicker"),
    [
        ("AMD EPYC", [], False),
        ("AMD EPYC", ["avx512_bf16"], True),
        ("Intel Xeon", ["avx512_bf16"], False),  # a quarter slower than float32: docs/log.md
        ("Intel Xeon", ["avx512_bf16", "amx_bf16"], True),
        (None, ["bf16"], True),  # ARM
    ],
)
def test_bfloat16_only_where_the_hardware_is_quicker_with_it(
    monkeypatch: pytest.MonkeyPatch, name: str | None, instructions: list[str], quicker: bool
) -> None:
    found = dict.fromkeys(instructions, True) | ({"cpu_name": name} if name else {})
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    cpu = torch.device("cpu")
    assert compute_dtype("auto", cpu) == (torch.bfloat16 if quicker else torch.float32)
    assert compute_dtype("float32", cpu) == torch.float32
    assert compute_dtype("bfloat16", cpu) == torch.bfloat16


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="elsewhere nothing is asked for")
def test_memory_that_was_freed_is_used_again_without_asking_the_system() -> None:
    assert in_a_new_process("new_pages()") < 1000  # of 25,000


def new_pages() -> int:
    """That the system handed out for the last of many tensors of 100 MB, each freed again.

    The first few may leave holes that the next one, for its alignment, does not quite fit.
    """
    import resource

    prepare()
    for _ in range(50):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(25_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@needs_fork
def test_the_first_call_in_a_process_is_as_exact_as_the_second() -> None:
    """Where `prepare` does not see to it, one process in twenty is not, on processors of Intel."""
    assert in_a_new_process("greatest_difference()") == 0


def in_a_new_process(call: str) -> float:
    """What a function of this module returns where no test has worked yet."""
    command = [
        sys.executable,
        "-c",
        f"from machine import test_hardware; print(test_hardware.{call})",
    ]
    done = subprocess.run(
        command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def greatest_difference() -> float:
    """Between the first call and the second, of 100 processes that torch has not worked in yet."""
    with get_context("fork").Pool(4, maxtasksperchild=1) as processes:
        return max(processes.imap(difference, ["cpu"] * 100))


def difference(device: str) -> float:
    prepare(device)
    x = torch.linspace(0.1, 1, 1_000_000)
    return max(
        (function(x) - function(x)).abs().max().item() for function in (torch.exp, torch.log)
    )
