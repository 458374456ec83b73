"""Several processes at one training or one measurement, on one machine or on many.

torchrun starts them; see `launch`. Each works on a share of the windows, and what they find is
added up, so that each goes on as if it had done all.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dropgpt.machine.interruption import Interrupted
from dropgpt.machine.memory import out_of_memory

BUCKET = 1 << 24  # elements that are sent at once: fewer cost waits, more cost memory
# Without a word from another process, before it counts as lost. The end of a process is seen at
# once; that of a machine's power or network tells nobody. What one does alone takes less: a save,
# or the checksums of all tokens, from a slow disk.
HANGING = timedelta(minutes=30)
SHOWN = 200  # characters of what torch says, half of them its last


@contextmanager
def together() -> Iterator[None]:
    """In the block, the processes that torchrun has started know of each other."""
    # What is no result, such as a request to leave, is agreed upon without waiting for a GPU.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with _others_there():
        dist.init_process_group(backend, timeout=HANGING)
    ended = False
    try:
        yield
        ended = True
    finally:
        # NCCL waits for the others there, and those of a process that fails alone never come.
        if ended or "nccl" not in backend:
            dist.destroy_process_group()


def rank() -> int:
    """Which of the processes this is, from 0. Only the first one writes results."""
    return dist.get_rank() if dist.is_initialized() else 0


def number() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def share(n: int) -> range:
    """Which of the numbers below n are this process's: as many as another's, or one more."""
    return range(n * rank() // number(), n * (rank() + 1) // number())


def add_up(tensors: list[Tensor]) -> None:
    """Make each of the tensors, in place, the sum over all processes; the same bits in each."""
    if number() == 1:
        return
    with _others_there():
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.flatten() for tensor in bucket])
            dist.all_reduce(flat)
            sums = flat.split([tensor.numel() for tensor in bucket])
            for tensor, found in zip(bucket, sums, strict=True):
                tensor.copy_(found.view_as(tensor))


def any_of(*facts: bool) -> list[bool]:
    """Whether each of `facts` holds in any of the processes."""
    if number() == 1:
        return list(facts)
    found = torch.tensor(facts, dtype=torch.uint8)
    with _others_there():
        dist.all_reduce(found, dist.ReduceOp.MAX)
    return found.bool().tolist()


def from_first(value: Any) -> Any:
    """What the first process gives; of all of them."""
    if number() == 1:
        return value
    values = [value]
    with _others_there():
        dist.broadcast_object_list(values)
    return values[0]


def tensor_from_first(tensor: Tensor) -> Tensor:
    """The tensor, which now holds in each process what it holds in the first."""
    if number() > 1:
        with _others_there():
            dist.broadcast(tensor, 0)
    return tensor


@contextmanager
def _others_there() -> Iterator[None]:
    """Where another process ends, so does this one: torchrun starts all of them again."""
    try:
        yield
    except RuntimeError as error:
        # NCCL's memory, too; and what a GPU has done before, and is only told here.
        if out_of_memory(error) or isinstance(error, torch.AcceleratorError):
            raise
        why = " ".join(str(error).split())
        why = why if len(why) <= SHOWN else f"{why[: SHOWN // 2]} ... {why[-SHOWN // 2 :]}"
        raise Interrupted(f"the end of another process, or of the way to it ({why})") from error


def _buckets(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """All of them in their order, some at a time."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        bucket.append(tensor)
        if sum(map(torch.numel, bucket)) >= BUCKET:
            yield bucket
            bucket = []
    if bucket:
        yield bucket
