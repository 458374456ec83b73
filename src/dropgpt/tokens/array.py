"""Token arrays: one in memory or mapped from a file, or many that read as one."""

from __future__ import annotations

from typing import Any, overload

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.uint16]


class Joined:
    """Arrays (n_i,) that read as the one array (n,) of all, side by side, without a copy of them.

    Places are counted from 0 on; unlike in NumPy, one below 0 is an IndexError.
    """

    def __init__(self, parts: list[Array]) -> None:
        self.parts = parts
        self.ends = np.cumsum([len(part) for part in parts], dtype=np.int64)

    def __len__(self) -> int:
        return int(self.ends[-1])

    @overload
    def __getitem__(self, places: slice) -> Joined: ...

    @overload
    def __getitem__(self, places: npt.NDArray[np.int64]) -> Array: ...

    def __getitem__(self, places: slice | npt.NDArray[np.int64]) -> Joined | Array:
        """A part that follows on itself, as a view; or the tokens at `places`, of their shape."""
        if isinstance(places, slice):
            start, stop, step = places.indices(len(self))
            assert step == 1
            begins = self.ends - [len(part) for part in self.parts]
            return Joined(
                [
                    part[max(0, start - begin) : max(0, stop - begin)]
                    for begin, part in zip(begins.tolist(), self.parts, strict=True)
                ]
            )
        found = np.empty(places.shape, dtype=np.uint16)
        for row in np.ndindex(places.shape[:-1]) if places.size else ():
            asked = places[row]  # such as those of a window: nearly always all of one shard
            low, high = asked.min(), asked.max()
            if low < 0 or high >= len(self):
                raise IndexError(f"a place outside of 0..{len(self) - 1}")
            first, last = np.searchsorted(self.ends, [low, high], side="right").tolist()
            for number in range(first, last + 1):
                begin = self.ends[number] - len(self.parts[number])
                there = (begin <= asked) & (asked < self.ends[number])
                found[row][there] = self.parts[number][asked[there] - begin]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """For `np.asarray`: all in memory."""
        return np.concatenate(self.parts, dtype=dtype)


Tokens = Array | Joined
