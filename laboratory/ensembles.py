"""Models of several seeds that read one text, and what the mean of their probabilities takes."""

import math
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dropgpt.evaluation import by_document


def together(found: list[dict[str, Any]], documents: pd.DataFrame) -> dict[str, Any]:
    """What such models have found at one length, each as `laboratory.run.found` has it.

    training, development, test  of a single model, the mean over them
    ensembles                    by the number of models in one: development and test
    """

    def of(members: int, part: str) -> npt.NDArray[np.float64]:
        return losses(np.array([one["tokens"][part] for one in found]), members)

    return {
        "training": round(float(np.mean([one["training"] for one in found])), 6),
        "development": round(float(np.mean([one["development"] for one in found])), 6),
        "test": np.mean([one["test"] for one in found], axis=0).round(3).tolist(),
        "ensembles": {
            members: {
                "development": round(float(of(members, "development").mean()), 6),
                "test": by_document(of(members, "test"), documents).round(3).tolist(),
            }
            for members in range(1, len(found) + 1)
        },
    }


def losses(tokens: npt.NDArray[np.float64], members: int) -> npt.NDArray[np.float64]:
    """What each token takes, in nats, mean over all choices of so many models.

    `tokens` (models, tokens) are the losses of each model alone.
    """
    chosen = [tokens[list(some)] for some in combinations(range(len(tokens)), members)]
    # The log of the mean of the members' probabilities, of each choice; then the mean of those.
    each = [math.log(members) - np.logaddexp.reduce(-some) for some in chosen]
    return np.asarray(np.mean(each, axis=0), dtype=np.float64)
