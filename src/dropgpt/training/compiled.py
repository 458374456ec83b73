"""The blocks by torch.compile: fewer and larger kernels."""

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from dropgpt.errors import UserError
from dropgpt.machine.memory import out_of_memory
from dropgpt.model.dropout import leave_masks_uncompiled
from dropgpt.model.gpt import GPT
from dropgpt.params import Train
from dropgpt.training.checkpoint_files import COMPILED

Transformed = Callable[[Tensor], Tensor]  # `GPT.transformed`, or the same compiled


def compiles(params: Train, device: torch.device) -> bool:
    """Whether `params.compile` asks for it there."""
    if params.compile == "auto":
        # A schedule that gives each step rates of its own would have each compiled anew. Triton
        # knows GPUs from Volta on.
        known = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0)
        return known and not params.dropout_schedule.startswith("linear")
    return params.compile


def compiled(model: GPT) -> Transformed:
    """What `model.transformed` does, the blocks compiled; the code is kept for the next training.

    All blocks are of one code, so that it is compiled once, not once a block.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(COMPILED.absolute()))
    # Code that is chosen by a race would be other code on another day, with other last bits.
    os.environ.setdefault("TORCHINDUCTOR_DETERMINISTIC", "1")
    leave_masks_uncompiled()
    # Its advice is another arithmetic.
    warnings.filterwarnings("ignore", "TensorFloat32 tensor cores", UserWarning)
    blocks = [torch.compile(block, dynamic=False) for block in model.h]
    return partial(model.transformed, blocks=blocks)


@contextmanager
def able_to_compile() -> Iterator[None]:
    """Where the block fails since torch cannot compile here, raise UserError with what it lacks."""
    try:
        yield
    except RuntimeError as error:
        compiler = sys.modules.get("torch._dynamo.exc")  # not imported where nothing is compiled
        if compiler is None or not isinstance(error, compiler.TorchDynamoException):
            raise
        if out_of_memory(error):  # on a GPU that others have filled
            raise
        why = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise UserError(
            f"train: torch.compile cannot work here ({why}): it needs a C and C++ compiler and "
            "Python's headers, on a GPU one that Triton knows; install them (gcc, g++, "
            "python3-dev), or set train.compile to false"
        ) from error
