"""What else was run, for its own sake: numbers with intervals and no verdict."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from dropgpt.comparison.interval import Difference
from laboratory.judge import difference
from laboratory.plan import Plan
from laboratory.results import NotRunError, Results

ELSEWHERE = ("map", "rest", "ensembles")  # groups that have tables of their own
# What each run has by its length, or by the design; the rest of a variant is what it is about.
OF_LENGTH = ("train.learning_rate", "readings", "train.dropout_switch_step")


@dataclass(frozen=True)
class Explored:
    """A setting at one length.

    changes  in the base, by dotted keys
    loss     on the test documents, in nats a token
    effect   beside no dropout, all else alike; None of no dropout itself
    """

    setting: str
    readings: int
    changes: dict[str, Any]
    loss: float
    effect: Difference | None


def explored(results: Results, plan: Plan) -> list[Explored]:
    """Of the groups that are complete, in the order of the plan."""
    found = []
    for group, of in plan.groups.items():
        for variant in of.variants if group not in ELSEWHERE else ():
            setting = variant.rpartition("-")[0]
            changes = {k: v for k, v in plan.variants[variant].items() if k not in OF_LENGTH}
            for readings in plan.params(variant, of.seeds[0]).readings:
                with suppress(NotRunError):
                    found.append(_explored(results, setting, readings, changes))
    return found


def _explored(results: Results, setting: str, readings: int, changes: dict[str, Any]) -> Explored:
    test = results.test(setting, readings)
    of_family = f"{setting.rpartition('-')[0]}-p0"
    none = of_family if of_family in results.settings else "p0"
    loss = results.loss(setting, readings)
    if setting == none:
        return Explored(setting, readings, changes, loss, None)
    effect = difference(test - results.test(none, readings), results)
    return Explored(setting, readings, changes, loss, effect)
