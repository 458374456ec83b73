"""Where the arithmetic runs, and in which precision."""

import ctypes
import os
import platform
import re
import sys
from contextlib import suppress
from importlib.metadata import version
from typing import Any, Literal

import torch

from dropgpt.errors import UserError
from dropgpt.machine import processes, threads, torchrun

# FLOP/s of bfloat16 without sparsity, by words in the name of the GPU, as the makers' data sheets
# have them; more words stand first.
PEAK_FLOPS = {
    "B200": 2250e12,
    "H200": 989e12,
    "GH200": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}


def prepare(name: str = "auto", n_threads: int | None = None) -> torch.device:
    """The device of that name, as in `runtime.device`, with torch set to repeat itself bit for bit.

    Of several processes on a machine with GPUs each has one of its own.
    Raises UserError where the device is not there.
    """
    _keep_freed_memory()
    # Large tensors in pages of 2 MB, where Linux has them: walking through pages of 4 kB takes
    # a tenth of a step. Torch reads this when it first allocates.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats itself only so
    # What use_deterministic_algorithms(True) does, without its import of torch's compiler.
    torch.set_deterministic_debug_mode("error")
    # float32 is float32, whatever TORCH_ALLOW_TF32_CUBLAS_OVERRIDE says in some containers.
    torch.set_float32_matmul_precision("highest")
    # Nothing here reads memory that it did not write; filling it would only cost time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # Where several threads at once make the first call of one of MKL's vector functions, a part
    # of its results may have half of their digits (github.com/pytorch/pytorch/issues/188792).
    for vector_function in (torch.exp, torch.log):
        vector_function(torch.ones(1))
    given = name
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if torchrun.started():
        one_gpu = name.startswith("cuda:") and os.environ["LOCAL_WORLD_SIZE"] != "1"
        if one_gpu or name == "mps":
            raise UserError(
                f"params.yaml: runtime.device is {name}, where several processes cannot work: they "
                "take cpu, or cuda, where each has a GPU of its own"
            )
        if name == "cuda":
            name = f"cuda:{os.environ['LOCAL_RANK']}"
    if name == "cuda":  # the calls that set a device take none without its number
        name = "cuda:0"
    device = torch.device(name)
    if device.type == "cuda" and torch.cuda.device_count():
        _start_cuda(given)
    there = {
        "cpu": True,
        "mps": torch.backends.mps.is_available(),
        "cuda": 0 <= (device.index or 0) < torch.cuda.device_count(),
    }
    if not there[device.type]:
        which = "such device" if given == name else name
        raise UserError(f"params.yaml: runtime.device is {given}, and torch finds no {which}")
    threads.set_number(n_threads if device.type == "cpu" else 1)
    if device.type == "cuda":
        _check_kernels(device)
        torch.cuda.set_device(device)  # where NCCL works
    return device


def _start_cuda(name: str) -> None:
    """From here on torch counts the devices that it can use; before, those that are built in.

    Raises UserError where CUDA does not start, as with too old a driver.
    """
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        why = str(error).partition("\n")[0].strip()
        raise UserError(
            f"params.yaml: runtime.device is {name}, and CUDA does not start: {why}"
        ) from None


def _check_kernels(device: torch.device) -> None:
    """Raise UserError where this build of torch has none for a GPU that is so old."""
    built_for = re.findall(r"sm_(\d+)", " ".join(torch.cuda.get_arch_list()))
    major, minor = torch.cuda.get_device_capability(device)
    if built_for and 10 * major + minor < min(map(int, built_for)):
        raise UserError(
            f"{torch.cuda.get_device_name(device)} is too old for this torch, {torch.__version__}: "
            "put `CUDA_VISIBLE_DEVICES=` before the command, which then takes the processor, or "
            "install a torch for an older CUDA, as https://pytorch.org/get-started/locally has it"
        )


def _keep_freed_memory() -> None:
    """Let the process keep the memory that it frees, where the C library is glibc.

    Else every step gives its large tensors back to the system and is handed them again in pages
    that must be cleared first: a fifth of the time of a small batch.
    """
    trim_threshold, mmap_max = -1, -4  # their numbers in malloc.h
    if sys.platform == "linux":
        with suppress(AttributeError):  # another C library
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(mmap_max, 0)
            mallopt(trim_threshold, 2**31 - 1)


def compute_dtype(
    precision: Literal["auto", "float32", "bfloat16"], device: torch.device
) -> torch.dtype:
    """The type of the large matrix products; weights and sums stay in float32, though a GPU may
    add up parts of a product in its type.

    `auto` is bfloat16 only where the hardware multiplies it faster than float32. Elsewhere it is
    emulated; and Intel's processors with its instructions but without AMX take a quarter longer
    for it (docs/log.md).
    """
    if precision == "auto":
        match device.type:
            case "cuda":
                multiplies = torch.cuda.is_bf16_supported(including_emulation=False)
            case "cpu":
                found = torch.cpu.get_capabilities()
                by_vectors = not str(found.get("cpu_name")).startswith("Intel")
                names = ["amx_bf16", "bf16", *["avx512_bf16"] * by_vectors]
                multiplies = any(found.get(name) for name in names)
            case _:
                multiplies = False
        return torch.bfloat16 if multiplies else torch.float32
    return getattr(torch, precision)


def peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """FLOP/s at which `device` can at most multiply matrices of `dtype`; None: not known here."""
    if device.type != "cuda" or dtype != torch.bfloat16:
        return None
    name = torch.cuda.get_device_name(device)
    if "MIG" in name:  # a slice, and who knows of which size
        return None
    known = r"\b{}\b(?! (Ti|D|Laptop|NVL)\b)"
    found = (peak for words, peak in PEAK_FLOPS.items() if re.search(known.format(words), name))
    return next(found, None)


def environment(
    device: torch.device, dtype: torch.dtype, shard_weights: bool = False
) -> dict[str, Any]:
    """What may change the last bits of a result, and is no parameter."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        processor = torch.cpu.get_capabilities().get("cpu_name") or platform.machine()
        name = f"{processor}, {torch.backends.cpu.get_cpu_capability()}"
    packages = ("numpy", "pandas", "pyarrow", "safetensors", "scipy", "tiktoken")
    several = {"processes": processes.number()} if processes.number() > 1 else {}
    if shard_weights:
        several["shard_weights"] = True
    return several | {
        "device": f"{device.type}: {name}",
        "threads": threads.number(),
        "precision": str(dtype).removeprefix("torch."),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {"torch": torch.__version__} | {name: version(name) for name in packages},
    }
