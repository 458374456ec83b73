"""Which documents make one article: those of one source that follow each other.

An article is never parted between training and held-out part, and it is by articles that chance is
told: its parts are of one subject and one hand, and so no independent draws.
"""

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

# What is added to the id and the source of the two parts of a document that is parted, so that its
# end may be held out.
PARTS = (" [training]", " [held out]")
Number = TypeVar("Number", bound=np.number[Any])


def begins(source: pd.Series) -> npt.NDArray[np.bool_]:
    """Whether each document is the first of its article, (documents,).

    Where all are of one article, each document is, since then only documents can be told apart.
    """
    found = (source != source.shift()).to_numpy()
    return found if found.sum() != 1 else np.ones(len(source), dtype=bool)


def sums(values: npt.NDArray[Number], source: pd.Series) -> npt.NDArray[Number]:
    """What `values`, (..., documents), add up to in each article, (..., articles)."""
    first = np.flatnonzero(begins(whole(source)))
    found: npt.NDArray[Number] = np.add.reduceat(values, first, axis=-1)
    return found


def whole(source: pd.Series) -> pd.Series:
    """The sources without what tells the end of a parted document: it is of the same article."""
    return source.astype(str).str.removesuffix(PARTS[1])
