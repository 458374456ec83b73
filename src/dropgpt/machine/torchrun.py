"""What torchrun tells the processes that it starts, in their environment.

All of it counts, or nothing: of another launcher, or of one that has ended, a part may be left.
"""

import os

TOLD = {"TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"}


def started() -> bool:
    """Whether torchrun has started this process."""
    return os.environ.keys() >= TOLD


def first() -> bool:
    """Whether this process is the first one of all on all machines, or the only one."""
    return not started() or os.environ["RANK"] == "0"


def first_here() -> bool:
    """Whether it is the first one on this machine, or the only one."""
    return not started() or os.environ["LOCAL_RANK"] == "0"
