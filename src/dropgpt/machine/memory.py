"""Where memory runs out, and how one knows."""

from collections.abc import Iterator
from contextlib import contextmanager

from dropgpt.errors import UserError

# Of torch, on a GPU or a CPU, and what it calls: only NumPy and Python have a class for it.
SAID = (
    "can't allocate memory",
    "out of memory",
    "bad_alloc",
    "Cannot allocate memory",
    "ALLOC_FAILED",  # cuBLAS, on a GPU that others have filled
    "NOT_INITIALIZED when calling `cublasCreate",  # and where not even its handle fits
)


def out_of_memory(error: BaseException) -> bool:
    """Whether this is what `error` says."""
    if isinstance(error, RuntimeError):
        return any(said in str(error) for said in SAID)
    return isinstance(error, MemoryError)


@contextmanager
def enough_memory(task: str, advice: str) -> Iterator[None]:
    """Where the block runs out of memory, raise UserError with `task` and `advice`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise UserError(f"{task}: out of memory; {advice}") from None
