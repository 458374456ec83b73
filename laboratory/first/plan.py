"""plan.yaml as typed, checked values."""

from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from ruamel.yaml import YAML

from dropgpt.errors import UserError
from dropgpt.params import Evaluate, Model, Section, Tokenize, Train, explain

FILE = Path("laboratory/first/plan.yaml")
TOKENS = Path("laboratory/first/tokens")
SETTING = Path("laboratory/first/setting.json")
RUNS = Path("laboratory/first/runs")


class Measure(Section):
    dropout_on: bool
    tokens: bool


class RunParams(Section):
    """What one run has: sections as in params.yaml, and what is measured beyond the loss."""

    tokenize: Tokenize
    model: Model
    train: Train
    evaluate: Evaluate
    measure: Measure


class Group(Section):
    seeds: list[int] = Field(min_length=1)
    variants: list[str] = Field(min_length=1)


class Plan(Section):
    """base: parameters of every run; variants: what each changes in it, by dotted keys."""

    documents: str | None
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
            raise UserError(f"{FILE}: variants.{variant}: no such variant")
        for key, value in (self.variants[variant] | {"train.seed": seed}).items():
            *sections, name = key.split(".")
            section: Any = values
            for step in sections:
                section = section.get(step) if isinstance(section, dict) else None
            if not isinstance(section, dict) or name not in section:
                raise UserError(f"{FILE}: variants.{variant}: {key}: the base has no such key")
            section[name] = value
        try:
            return RunParams.model_validate(values)
        except ValidationError as error:
            where = FILE / f"base with variants.{variant}"
            raise UserError("; ".join(explain(where, e) for e in error.errors())) from None


def file(variant: str, seed: int) -> Path:
    """What a run has found."""
    return RUNS / f"{variant}-{seed}.json"


def load() -> Plan:
    """The plan, each of its runs checked. Raises UserError, naming what is wrong and where."""
    try:
        plan = Plan.model_validate(YAML(typ="safe").load(FILE))
    except ValidationError as error:
        raise UserError("; ".join(explain(FILE, e) for e in error.errors())) from None
    named = [name for group in plan.groups.values() for name in group.variants]
    for name in dict.fromkeys([*named, *plan.variants]):
        if named.count(name) != 1:
            raise UserError(f"{FILE}: {name} stands in {named.count(name)} groups, not in one")
        plan.params(name, plan.seeds[name][0])
    return plan
