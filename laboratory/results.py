"""What the runs of a size have found, read from its folder."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from laboratory.plan import Plan, Size

# The group that chooses learning rates; it and those whose names begin so stand in no result.
TUNING = "rates"


class NotRunError(LookupError):
    """Of this setting runs are missing in its group, or there is no such length."""


@dataclass(frozen=True)
class Losses:
    """What the runs of a setting have found at one length, a row a seed.

    development  nats a token
    test         nats of each test document, all its tokens together; a column a document
    training     nats a token over the last reading, dropout on
    monte_carlo  as test, by the number of passes with dropout left on; where it was measured
    ensembles    as test, by the number of models in one; where several read one text
    """

    development: pd.Series
    test: pd.DataFrame
    training: pd.Series
    monte_carlo: dict[int, pd.DataFrame] = field(default_factory=dict)
    ensembles: dict[int, pd.DataFrame] = field(default_factory=dict)


class Results:
    """Of each complete group the settings that it compares.

    A setting's variants have its name before their last "-" and differ in their lengths only:
    `p20-short` and `p20-long` are of the setting `p20`.
    """

    def __init__(self, settings: dict[str, dict[int, Losses]], sizes: npt.NDArray[np.int64]):
        self.settings = settings
        self.sizes = sizes  # of the test documents, in tokens

    def at(self, setting: str, readings: int) -> Losses:
        """Raises NotRunError."""
        try:
            return self.settings[setting][readings]
        except KeyError as error:
            raise NotRunError(f"{setting} at {readings} readings") from error

    def lengths(self, setting: str) -> list[int]:
        """Raises NotRunError where it has none."""
        if setting not in self.settings:
            raise NotRunError(setting)
        return sorted(self.settings[setting])

    def test(self, setting: str, readings: int) -> pd.DataFrame:
        return self.at(setting, readings).test

    def loss(self, setting: str, readings: int) -> float:
        """The test loss in nats a token, mean over the seeds."""
        return float(self.test(setting, readings).sum(axis=1).mean() / self.sizes.sum())

    def development(self, setting: str, readings: int) -> float:
        """Nats a token, mean over the seeds."""
        return float(self.at(setting, readings).development.mean())

    def best(self, setting: str) -> int:
        """The length with the lowest development loss."""
        return min(self.lengths(setting), key=lambda n: self.development(setting, n))

    def chosen(self, *settings: str, readings: int | None = None) -> str:
        """The one with the lowest development loss, at that length or each at its best."""
        return min(settings, key=lambda one: self.development(one, readings or self.best(one)))


def read(size: Size, chosen: Plan) -> Results:
    """All runs of those groups of which none is missing."""
    settings: dict[str, dict[int, Losses]] = {}
    sizes = np.zeros(0, dtype=np.int64)
    for name, group in chosen.groups.items():
        if name.startswith(TUNING) or not all(file.exists() for file in files(size, chosen, name)):
            continue
        for variant in group.variants:
            runs = {seed: load(size.run(variant, seed)) for seed in group.seeds}
            sizes = np.array(runs[group.seeds[0]]["documents"]["test"]["tokens"])
            settings.setdefault(variant.rpartition("-")[0], {}).update(_lengths(runs))
    return Results(settings, sizes)


def _lengths(runs: dict[int, dict[str, Any]]) -> dict[int, Losses]:
    found: dict[int, Losses] = {}
    for readings in next(iter(runs.values()))["lengths"]:
        each = {seed: run["lengths"][readings] for seed, run in runs.items()}
        first = next(iter(each.values()))
        found[int(readings)] = Losses(
            pd.Series({seed: one["development"] for seed, one in each.items()}),
            _by_seed({seed: one["test"] for seed, one in each.items()}),
            pd.Series({seed: one["training"] for seed, one in each.items()}),
            {
                int(passes): _by_seed(
                    {seed: one["monte_carlo"][passes]["test"] for seed, one in each.items()}
                )
                for passes in first.get("monte_carlo", ())
            },
            {
                int(members): _by_seed(
                    {seed: one["ensembles"][members] for seed, one in each.items()}
                )
                for members in first.get("ensembles", ())
            },
        )
    return found


def _by_seed(rows: dict[int, Any]) -> pd.DataFrame:
    return pd.DataFrame.from_dict(rows, "index")


def files(size: Size, chosen: Plan, group: str) -> list[Path]:
    """Those of a group's runs, made or not."""
    of = chosen.groups[group]
    return [size.run(variant, seed) for variant in of.variants for seed in of.seeds]


def load(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def table(size: Size, chosen: Plan, variants: Iterable[str]) -> pd.DataFrame:
    """The runs of these variants that have been made, a row a length.

    Columns: variant, seed, p (the rate of dropout), learning_rate, readings, and losses in nats a
    token: development, test, training (dropout on).
    """
    rows = [
        row
        for variant in variants
        for seed in chosen.seeds[variant]
        if (file := size.run(variant, seed)).exists()
        for row in _rows(file, variant, seed)
    ]
    columns = ["variant", "seed", "p", "learning_rate", "readings"]
    return pd.DataFrame(rows, columns=[*columns, "development", "test", "training"])


def _rows(file: Path, variant: str, seed: int) -> Iterable[tuple[object, ...]]:
    found = load(file)
    params = found["made_by"]["params"]
    made_by = (variant, seed, params["model"]["dropout"], params["train"]["learning_rate"])
    tokens = sum(found["documents"]["test"]["tokens"])
    for readings, one in found["lengths"].items():
        losses = (one["development"], sum(one["test"]) / tokens, one["training"])
        yield (*made_by, int(readings), *losses)
