"""A plan.yaml as typed, checked values: laboratory/small/plan.yaml is that of the small model."""

import re
import sys
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveInt, ValidationError, model_validator
from ruamel.yaml import YAML

from dropgpt.errors import UserError, explain, keys
from dropgpt.params import NOT_YAML, Evaluate, Model, Section, Tokenize, Train
from dropgpt.training.schedules import stable_steps

FOLDER = Path("laboratory")
# The group that chooses learning rates; it and those whose names begin so stand in no result.
TUNING = "rates"
APART = 1000  # seeds of models that read one text
# What variants of one setting may differ in, beside the lengths.
OF_LENGTH = ("readings", "train.learning_rate", "train.dropout_switch_step")


class RunParams(Section):
    """What one run has: sections as in params.yaml, and more.

    train.seed   by it the text is drawn, too
    train.steps  those of one reading
    members      how many models read this text, for ensembles; null: one
    readings     the lengths, how often the text is read
    monte_carlo  with how many passes with dropout left on each is measured besides
    """

    tokenize: Tokenize
    model: Model
    train: Train
    evaluate: Evaluate
    members: PositiveInt | None
    readings: Annotated[list[PositiveInt], Field(min_length=1)]
    monte_carlo: list[PositiveInt]

    @model_validator(mode="after")
    def _check(self) -> "RunParams":
        if self.members and self.monte_carlo:
            raise ValueError("members are measured together, monte_carlo one model: take one")
        if self.train.tokens is None:
            raise ValueError("train.tokens is null: give the tokens of a text, of which steps read")
        windows = (self.train.tokens - 1) // self.model.n_ctx
        if self.train.steps * self.train.batch_size != windows:
            raise ValueError(
                f"train.steps are those of one reading: {self.train.steps} of "
                f"{self.train.batch_size} windows are not the {windows} of {self.train.tokens} "
                f"tokens at a context of {self.model.n_ctx}"
            )
        self.evaluate.check_windows(self.model)
        return self

    def models(self) -> list["RunParams"]:
        """The same with the seed of each model that reads this run's text.

        The first has the run's own; no model has the seed of one that reads another text.
        """
        seeds = [self.train.seed + APART * number for number in range(self.members or 1)]
        return [
            self.model_copy(update={"train": self.train.model_copy(update={"seed": seed})})
            for seed in seeds
        ]

    def training(self, readings: int) -> Train:
        """The whole training of so many readings. A schedule of dropout that switches does so
        in the middle."""
        steps = readings * self.train.steps
        return self._with(steps, {})

    def trunk(self, readings: int) -> Train:
        """What is common to that training and to longer ones: the steps at a constant rate."""
        steps = stable_steps(readings * self.train.steps)
        return self._with(steps, {"lr_schedule": "constant"})

    @property
    def has_trunk(self) -> bool:
        """Whether the first steps are the same whatever the length is."""
        return self.train.lr_schedule == "wsd" and self.train.dropout_schedule == "constant"

    def _with(self, steps: int, changes: dict[str, Any]) -> Train:
        switches = self.train.dropout_schedule in ("early", "late")
        changes = {"steps": steps, "dropout_switch_step": steps // 2 if switches else 0} | changes
        return Train.model_validate(self.train.model_dump() | changes)


def serves(made: dict[str, Any], planned: dict[str, Any]) -> bool:
    """Whether a run of the parameters `made` has what one of `planned` would have.

    It may have more lengths: each is a training of its own.
    """
    same = made | {"readings": []} == planned | {"readings": []}
    return same and set(planned["readings"]) <= set(made["readings"])


def setting(variant: str) -> str:
    """What a variant is one of: `p20-short` and `p20-long` are the setting `p20`."""
    return variant.rpartition("-")[0]


class Group(Section):
    seeds: list[int] = Field(min_length=1)
    variants: list[str] = Field(min_length=1)


class Plan(Section):
    """base: parameters of every run; variants: what each changes in it, by dotted keys."""

    documents: re.Pattern[str] | None
    base: dict[str, Any]
    groups: dict[str, Group]
    variants: dict[str, dict[str, Any]]

    @cached_property
    def seeds(self) -> dict[str, list[int]]:
        """Of each variant that is run, in the order of the plan."""
        return {name: group.seeds for group in self.groups.values() for name in group.variants}

    def group(self, variant: str) -> str:
        return next(name for name, group in self.groups.items() if variant in group.variants)

    def params(self, variant: str, seed: int) -> RunParams:
        """Of one run. Raises UserError, naming the variant and the key."""
        values = deepcopy(self.base)
        if variant not in self.variants:
            raise UserError(f"plan.yaml: variants.{variant}: no such variant")
        for key, value in (self.variants[variant] | {"train.seed": seed}).items():
            *sections, name = key.split(".")
            section: Any = values
            for step in sections:
                section = section.get(step) if isinstance(section, dict) else None
            if not isinstance(section, dict) or name not in section:
                raise UserError(f"plan.yaml: variants.{variant}: {key}: the base has no such key")
            section[name] = value
        try:
            return RunParams.model_validate(values)
        except ValidationError as error:
            where = Path(f"plan.yaml: base with variants.{variant}")
            known = [*keys(RunParams)]
            raise UserError("; ".join(explain(where, e, known) for e in error.errors())) from None


def arguments(*names: str) -> list[str]:
    """Those of a module's call, one for each name; where they are not, it ends with a line."""
    module, *given = sys.argv
    if len(given) != len(names):
        sys.exit(f"error: python -m laboratory.{Path(module).stem} takes {' '.join(names)}")
    return given


class Size:
    """The files of one size of model."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.command = f"python -m laboratory {name}"  # makes all of it
        self.folder = FOLDER / name
        self.plan = self.folder / "plan.yaml"
        self.tokens = self.folder / "tokens"
        self.setting = self.folder / "setting.json"
        # The plan's, once more: in each look at a run DVC reads JSON in 1 ms, so much YAML in 750.
        self.variants = self.folder / "variants.json"
        self.runs = self.folder / "runs"

    def run(self, variant: str, seed: int) -> Path:
        """What a run has found."""
        return self.runs / f"{variant}-{seed}.json"

    def load(self) -> Plan:
        """The plan as it stands; `laboratory.mistakes` looks at its runs.

        Raises UserError, naming what is wrong and where.
        """
        if not self.plan.is_file():
            there = ", ".join(sorted(path.parent.name for path in FOLDER.glob("*/plan.yaml")))
            raise UserError(f"{self.plan}: no such plan; there are those of: {there}")
        try:
            return Plan.model_validate(YAML(typ="safe").load(self.plan))
        except ValidationError as error:
            known = [*keys(Plan)]
            mistakes = [explain(self.plan, e, known) for e in error.errors()]
            raise UserError("; ".join(mistakes)) from None
        except NOT_YAML as error:
            raise UserError(f"{self.plan}: not YAML: {' '.join(str(error).split())}") from None
