"""What the runs have found, read from laboratory/first/runs."""

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dropgpt.evaluation import by_document
from laboratory.first.plan import RUNS, Plan, file


@dataclass(frozen=True)
class Found:
    """What one run has found; losses in nats a token.

    made_by    the record of provenance
    curve      one row a validation: readings, loss (held-out, dropout off)
    training   the mean loss between two validations, dropout on
    documents  one row a held-out document: tokens, and sums over them of the losses of the
               weights after the last step; see `laboratory.run.found`
    tokens     what each held-out token takes, if that was kept
    """

    made_by: dict[str, Any]
    parameters: int
    curve: pd.DataFrame
    training: list[float]
    documents: pd.DataFrame
    tokens: npt.NDArray[np.float64] | None

    def after(self, readings: int) -> float:
        """The loss at the validation after so many readings; not a number where there is none."""
        there = self.curve.loss[np.isclose(self.curve.readings, readings, atol=0.02)]
        return float(there.iloc[0]) if len(there) else math.nan

    def best(self, readings: float = math.inf) -> pd.Series:
        """The validation with the lowest loss within so many readings."""
        curve = self.curve[self.curve.readings <= readings + 0.02]
        return curve.loc[curve.loss.idxmin()]


class Results(Mapping[tuple[str, int], Found]):
    """Those of the plan's runs that have been made, by variant and seed."""

    def __init__(self, found: dict[tuple[str, int], Found]) -> None:
        self.found = found
        self.ensembles: dict[str, npt.NDArray[np.float64]] = {}  # those asked for so far

    def __getitem__(self, key: tuple[str, int]) -> Found:
        return self.found[key]

    def __iter__(self) -> Any:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def seeds(self, *variants: str) -> list[int]:
        """Those with which each of the variants was run."""
        of_each = [{seed for name, seed in self.found if name == variant} for variant in variants]
        return sorted(set.intersection(*of_each)) if of_each else []

    def ensemble(self, variant: str) -> npt.NDArray[np.float64]:
        """What each document takes if the probabilities of all seeds' models are averaged."""
        if variant not in self.ensembles:
            runs = [self[variant, seed] for seed in self.seeds(variant)]
            each = np.stack([one.tokens for one in runs if one.tokens is not None])
            mean = math.log(len(each)) - np.logaddexp.reduce(-each)
            self.ensembles[variant] = by_document(mean, runs[0].documents)
        return self.ensembles[variant]


def read(plan: Plan, folder: Path = RUNS) -> Results:
    """All of the plan's runs that are there."""
    paths = {
        (variant, seed): folder / file(variant, seed).name
        for variant, seeds in plan.seeds.items()
        for seed in seeds
    }
    return Results({key: read_run(path) for key, path in paths.items() if path.exists()})


def read_run(path: Path) -> Found:
    values = json.loads(path.read_text(encoding="utf-8"))
    params = values["made_by"]["params"]
    steps = np.array(list(map(int, values["validations"])))
    read_tokens = steps * params["train"]["batch_size"] * params["model"]["n_ctx"]
    curve = {
        "readings": read_tokens / (params["train"]["tokens"] - 1),
        "loss": list(values["validations"].values()),
    }
    kept = values.get("tokens")
    return Found(
        values["made_by"],
        values["parameters"],
        pd.DataFrame(curve),
        values["training"],
        pd.DataFrame(values["documents"]),
        np.frombuffer(base64.b64decode(kept), "<f2").astype(np.float64) if kept else None,
    )
