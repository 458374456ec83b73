"""Which documents make one article: those of one source that follow each other.

An article is never parted between training and held-out part, and it is by articles that chance is
told: its parts are of one subject and one hand, and so no independent draws.
"""

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

Number = TypeVar("Number", bound=np.number[Any])


def begins(source: pd.Series) -> npt.NDArray[np.bool_]:
    """Whether each document is the first of its article, (documents,).

    Where all are of one article, each document is, since then only documents can be told apart.
    """
    found = (source != source.shift()).to_numpy()
    return found if found.sum() != 1 else np.ones(len(source), dtype=bool)


def sums(values: npt.NDArray[Number], source: pd.Series) -> npt.NDArray[Number]:
    """What `values`, (..., documents), add up to in each article, (..., articles)."""
    found: npt.NDArray[Number] = np.add.reduceat(values, np.flatnonzero(begins(source)), axis=-1)
    return found
