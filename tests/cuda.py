"""What stands in for `torch.cuda` where there is no GPU, and refuses what it would refuse."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dropgpt.randomness import seed_dropout

H100 = "NVIDIA H100 80GB HBM3"
WAITS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select")  # for a result


def stand_in(
    monkeypatch: pytest.MonkeyPatch, gpus: int = 2, capability: tuple[int, int] = (9, 0)
) -> list[int]:
    """Some GPUs, which only answer; the list of those that will have been set.

    What torch does in Python before it asks the driver is its own code, with its own refusals.
    """
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: H100)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_90", "compute_120"])
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", _properties)
    monkeypatch.setattr(torch._C, "_cuda_setDevice", chosen.append, raising=False)
    return chosen


def _properties(device: torch.device) -> SimpleNamespace:
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "0,1,2,3").split(",")
    return SimpleNamespace(uuid=f"the-gpu-{seen[device.index or 0]}")


class Graph(TorchDispatchMode):
    """Notes the operations on tensors in a block, and does them again: the same, where they were.

    As a CUDA graph it knows addresses and no Python: what is not in a tensor by then stays as it
    is. And what is noted has not been done: what it wrote over is put back after the block.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, ...]] = []
        self.written: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name in WAITS:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        kwargs = kwargs or {}
        for number, argument in enumerate(func._schema.arguments):
            if argument.is_write:
                given = args[number] if number < len(args) else kwargs.get(argument.name)
                self.written += [(t, t.detach().clone()) for t in tree_leaves(given)]
        found = func(*args, **kwargs)
        self.operations.append((func, args, kwargs, found))
        return found

    @torch.no_grad()
    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for tensor, before in reversed(self.written):
            tensor.detach().copy_(before)
        self.written = []

    def pool(self) -> None:
        return None

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, before in self.operations:
            found = func(*args, **kwargs)
            for old, new in zip(tree_leaves(before), tree_leaves(found), strict=True):
                if isinstance(old, torch.Tensor) and not _same_place(old, new):
                    old.detach().copy_(new)


def _same_place(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def stand_in_for_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def capture(graph: Graph, pool: Any = None) -> Iterator[None]:
        with graph:
            yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capture)


def draw_masks_as_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout by torch's own generator, seeded for a pass, not by streams for each window."""

    def keep_mask(shape: tuple[int, ...], rate: float) -> tuple[torch.Tensor, float]:
        return torch.rand(shape) >= rate, 1 / (1 - rate)

    def seed(*arguments: Any) -> None:
        seed_dropout(*arguments[:-1], torch.device("meta"))

    monkeypatch.setattr("dropgpt.model.dropout.keep_mask", keep_mask)
    monkeypatch.setattr("dropgpt.training.step_on_gpu.seed_dropout", seed)
