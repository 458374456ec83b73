"""What is wrong with a plan, told before its first run.

Here and not in `plan`, on which all runs depend: what is asked of a plan changes no number.
"""

import re
from typing import Any

from dropgpt.errors import UserError
from dropgpt.params import dotted
from laboratory.plan import APART, OF_LENGTH, TUNING, Plan, Size, setting
from laboratory.worth import RATES

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"  # of a file, of a stage
# What no run reads: each document is measured by itself, by the model that was trained; and with
# how many passes, `monte_carlo` says.
UNREAD: dict[str, Any] = {
    "model": None,
    "across_documents": False,
    "dropout_passes": 1,
    "extra_corpora": [],
}


def checked(size: Size) -> Plan:
    """The plan, each of its runs looked at. Raises UserError, naming what is wrong and where."""
    plan = size.load()
    named = [name for group in plan.groups.values() for name in group.variants]
    for name in dict.fromkeys([*named, *plan.variants]):
        if named.count(name) != 1:
            raise UserError(f"{size.plan}: {name} stands in {named.count(name)} groups, not in one")
        if not re.fullmatch(NAME, name):
            raise UserError(
                f"{size.plan}: variants.{name}: a file is called by it: name it by letters, "
                'digits, "-", "_" and "."'
            )
        for seed in plan.seeds[name]:
            plan.params(name, seed)
        _check_read(size, plan, name)
        _check_members(size, plan, name)
    for name, group in plan.groups.items():
        if len(group.seeds) < 2 and not name.startswith(TUNING):
            raise UserError(
                f"{size.plan}: groups.{name}.seeds: one seed says nothing of chance: give two or "
                "more"
            )
    _check_settings(size, plan)
    return plan


def _check_read(size: Size, plan: Plan, name: str) -> None:
    """Raise UserError where a variant changes what no run reads."""
    own = plan.params(name, plan.seeds[name][0])
    if own.tokenize.model_dump() != plan.base["tokenize"]:
        raise UserError(
            f"{size.plan}: variants.{name}: all runs of {size.name} read the same tokens, so "
            "section tokenize is that of the base: change it there"
        )
    for key, value in UNREAD.items():
        if getattr(own.evaluate, key) != value:
            raise UserError(
                f"{size.plan}: variants.{name}: evaluate.{key} is read by no run: set it to "
                f"{'null' if value is None else str(value).lower()}"
            )


def _check_members(size: Size, plan: Plan, name: str) -> None:
    """Raise UserError where models of two runs would have one seed, but other texts."""
    seeds = plan.seeds[name]
    models = [one.train.seed for seed in seeds for one in plan.params(name, seed).models()]
    if twice := next((seed for seed in models if models.count(seed) > 1), None):
        raise UserError(
            f"{size.plan}: variants.{name}: members of one text have seeds {APART} apart, so "
            f"{twice} would be that of a model of two texts: choose the group's seeds closer "
            "together"
        )


def _check_settings(size: Size, plan: Plan) -> None:
    """Raise UserError where one name would stand for two things."""
    known: dict[str, list[str]] = {}
    for name in plan.seeds:
        if plan.group(name).startswith(TUNING):
            continue
        if not setting(name):
            raise UserError(
                f'{size.plan}: {name}: a name ends in "-" and what tells its lengths apart'
            )
        rate = setting(name).rpartition("-")[2]
        if (p := plan.params(name, 0).model.dropout) != float(RATES.get(rate, p)):
            raise UserError(
                f"{size.plan}: variants.{name}: the page takes {rate} for a rate of {RATES[rate]}, "
                f"and its model.dropout is {p:g}: name it otherwise"
            )
        others = known.setdefault(setting(name), [])
        for other in others:
            if why := _apart(plan, name, other):
                raise UserError(
                    f"{size.plan}: {name} and {other} are of one setting, {setting(name)}, by "
                    f'what stands before their last "-", and {why}: name one otherwise'
                )
        others.append(name)


def _apart(plan: Plan, name: str, other: str) -> str | None:
    """Why these variants are not of one setting, if they are not."""
    if plan.group(name) != plan.group(other):
        return "stand in two groups"
    ours, theirs = (dotted(plan.params(one, 0).model_dump()) for one in (name, other))
    if differ := [key for key in ours if key not in OF_LENGTH and ours[key] != theirs[key]]:
        return f"differ in {', '.join(differ)}"
    both = {*ours["readings"]} & {*theirs["readings"]}
    return f"both have {min(both)} readings" if both else None
