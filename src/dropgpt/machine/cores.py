"""The cores of this machine."""

import os


def number() -> int:
    """How many this process may use: a batch system may lend it a few of a machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
