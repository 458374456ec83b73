"""What the runs of a size have found, read from its folder."""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dropgpt.errors import UserError
from laboratory.plan import TUNING, Plan, Size, serves, setting

AGAIN = 3  # runs are made again, the same, before code that changed no number takes over all


class NotRunError(LookupError):
    """Of this setting runs are missing in its group, or there is no such length."""


@dataclass(frozen=True)
class Losses:
    """What the runs of a setting have found at one length, a row a seed.

    development  nats a token
    test         nats of each test document, all its tokens together; a column a document
    monte_carlo  as test, by the number of passes with dropout left on whose mean it is; 1: what
                 one pass takes, the mean over the most that were made. Where it was measured
    """

    development: pd.Series
    test: pd.DataFrame
    monte_carlo: dict[int, pd.DataFrame] = field(default_factory=dict)


class Results:
    """Of each complete group the settings that it compares, as `plan.setting` has them.

    Where several models read one text, ensembles of so many are settings, too; see `ensemble`.
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
        return self.mean(self.test(setting, readings))

    def mean(self, sums: pd.DataFrame) -> float:
        """In nats a token, of what test documents take, as `Losses` has it."""
        return float(sums.sum(axis=1).mean() / self.sizes.sum())

    def development(self, setting: str, readings: int) -> float:
        """Nats a token, mean over the seeds."""
        return float(self.at(setting, readings).development.mean())

    def best(self, setting: str, among: tuple[int, ...] = ()) -> int:
        """The length with the lowest development loss, of these or of all.

        Raises NotRunError where one of these was not run.
        """
        lengths = among or self.lengths(setting)
        return min(lengths, key=lambda n: self.development(setting, n))

    def chosen(self, *settings: str, among: tuple[int, ...] = ()) -> str:
        """The one with the lowest development loss, each at its best length, of these or of all.

        It is that of the seeds that all of them have.
        """
        each = {one: self.at(one, self.best(one, among)).development for one in settings}
        shared = set.intersection(*(set(losses.index) for losses in each.values()))
        return min(settings, key=lambda one: each[one][sorted(shared)].mean())


def ensemble(setting: str, members: int) -> str:
    """The setting of the ensembles of so many of its models."""
    return f"{setting}, {members} together"


def read(size: Size, plan: Plan, in_parts: str = "") -> Results:
    """All runs of those groups of which none is missing.

    Of the group `in_parts` also those of the variants of which none is missing. Raises
    UserError where one was made by other parameters than the plan has now.
    """
    settings: dict[str, dict[int, Losses]] = defaultdict(dict)
    sizes = np.zeros(0, dtype=np.int64)
    for name, group in plan.groups.items():
        there = [
            variant
            for variant in group.variants
            if all(size.run(variant, seed).exists() for seed in group.seeds)
        ]
        if name.startswith(TUNING) or (name != in_parts and there != group.variants):
            continue
        for variant in there:
            runs = {seed: _checked(size, plan, variant, seed) for seed in group.seeds}
            sizes = np.array(runs[group.seeds[0]]["documents"]["test"]["tokens"])
            for readings in plan.params(variant, group.seeds[0]).readings:
                each = {seed: run["lengths"][str(readings)] for seed, run in runs.items()}
                settings[setting(variant)][readings] = of_length(each)
                for members in next(iter(each.values())).get("ensembles", ()):
                    together = {seed: one["ensembles"][members] for seed, one in each.items()}
                    of = ensemble(setting(variant), int(members))
                    settings[of][readings] = of_length(together)
    return Results(dict(settings), sizes)


def _checked(size: Size, plan: Plan, variant: str, seed: int) -> dict[str, Any]:
    found = load(file := size.run(variant, seed))
    if not serves(found["made_by"]["params"], plan.params(variant, seed).model_dump()):
        raise UserError(
            f"laboratory: {file} was made with other parameters than {size.plan} has: remove it, "
            f"and `{size.command}` makes it anew"
        )
    return found


def of_length(found: dict[int, dict[str, Any]]) -> Losses:
    """What runs have found at one length, by seed."""

    def by_seed(*keys: str) -> pd.DataFrame:
        return pd.DataFrame.from_dict(
            {seed: reduce(getitem, keys, one) for seed, one in found.items()}, "index"
        )

    passes = list(next(iter(found.values())).get("monte_carlo", ()))
    on = {1: by_seed("monte_carlo", max(passes, key=int), "on")} if passes else {}
    return Losses(
        pd.Series({seed: one["development"] for seed, one in found.items()}),
        by_seed("test"),
        on | {int(number): by_seed("monte_carlo", number, "test") for number in passes},
    )


def files(size: Size, plan: Plan, group: str) -> list[Path]:
    """Those of a group's runs, made or not."""
    of = plan.groups[group]
    return [size.run(variant, seed) for variant in of.variants for seed in of.seeds]


def load(file: Path) -> dict[str, Any]:
    """What a run has found. Raises UserError where the file is torn or not a run's."""
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if {"made_by", "parameters", "documents", "lengths"} <= {*found}:
            return found
    except ValueError:
        pass
    raise UserError(
        f"laboratory: {file} is torn, or no run has written it: bring it back from git, or remove "
        "it, and it is made anew"
    )
