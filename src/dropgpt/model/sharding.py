"""Weights that several processes hold together, each a part, for models beyond one GPU: FSDP2.

What each holds of a weight, of its gradient and of what the optimizer remembers is a part of its
rows. A block's weights come together for as long as the block works (Zhao et al. 2023).
"""

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from dropgpt.machine import processes
from dropgpt.model.gpt import EMBEDDINGS, GPT

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def shard(model: GPT, device: torch.device) -> None:
    """Leave this process its part of the weights, on `device`, but embeddings and head whole.

    What multiplies by the head is no module that torch could watch.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    shared: dict[str, Any] = {
        "mesh": init_device_mesh(device.type, (processes.number(),)),
        "reshard_after_forward": True,
    }
    for block in model.h:
        fully_shard(block, **shared)
    whole = {p for name, p in model.named_parameters() if name in EMBEDDINGS or p is model.head}
    fully_shard(model, **shared, ignored_params=whole)
    register_fsdp_forward_method(model, "transformed")
    for module in (*model.h, model):
        held = cast(FSDPModule, module)
        held.set_gradient_divide_factor(1.0)  # a sum: each loss is divided by the batch's size
        held.set_force_sum_reduction_for_comms(True)


def local(tensor: Tensor) -> Tensor:
    """What this process holds of it: all, where it is not sharded."""
    return cast("DTensor", tensor).to_local() if is_sharded(tensor) else tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether it is a DTensor; without importing those, which takes long."""
    return hasattr(tensor, "device_mesh")


def gathered(tensor: Tensor, like: Tensor) -> Tensor:
    """The whole of which each process gives the part that it holds of `like`."""
    if not is_sharded(like):
        return tensor
    from torch.distributed.tensor import DTensor

    held = cast(DTensor, like)
    return DTensor.from_local(
        tensor, held.device_mesh, held.placements, shape=held.shape, stride=held.stride()
    ).full_tensor()


def part(whole: Tensor, like: Tensor) -> Tensor:
    """What this process holds of `whole`, as it does of `like`."""
    if not is_sharded(like):
        return whole
    from torch.distributed.tensor import DTensor, Replicate

    held = cast(DTensor, like)
    everywhere = DTensor.from_local(whole, held.device_mesh, [Replicate()])
    return everywhere.redistribute(placements=held.placements).to_local()


@torch.no_grad()
def unsharded(model: GPT) -> GPT:
    """The same model with all its weights, on the CPU, in the first process."""
    result = GPT.empty(model.config, model.n_vocab)
    for own, held in zip(result.parameters(), model.parameters(), strict=True):
        whole = gathered(local(held), held)
        if not processes.rank():
            own.copy_(whole)
    return result
