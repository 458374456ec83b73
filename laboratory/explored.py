"""What else was run, for its own sake: numbers with intervals and no verdict."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

from dropgpt.comparison.interval import Difference
from dropgpt.params import dotted
from laboratory.judge import compared, difference
from laboratory.plan import OF_LENGTH, TUNING, Plan, RunParams, setting
from laboratory.results import NotRunError, Results, ensemble

# Groups that have tables of their own.
ELSEWHERE = ("map", "decays", "fixed", "ensembles", "more_ensembles", "passes")
LEFT_OUT = (*OF_LENGTH, "train.seed", "monte_carlo")
# Without any dropout, when and of what it is does not matter.
WITHOUT = {
    "model.dropout": 0.0,
    "model.dropout_sites.embedding": None,
    "model.dropout_sites.attention": None,
    "model.dropout_sites.attention_output": None,
    "model.dropout_sites.mlp": None,
    "model.attention_dropout": "weights",
    "model.block_dropout": 0.0,
    "train.dropout_schedule": "constant",
    "train.token_replacement": 0.0,
}


@dataclass(frozen=True)
class Explored:
    """A setting at one length.

    changes        in the base, by dotted keys
    learning_rate  the highest
    loss           on the test documents, in nats a token
    rate_of_none   the learning rate of no dropout, all else alike; None of no dropout itself, and
                   where that was not run
    effect         beside that
    """

    setting: str
    readings: int
    changes: dict[str, Any]
    learning_rate: float
    loss: float
    rate_of_none: float | None
    effect: Difference | None


def explored(results: Results, plan: Plan) -> list[Explored]:
    """Of the groups that are complete, in the order of the plan."""
    params = {
        variant: plan.params(variant, seeds[0])
        for variant, seeds in plan.seeds.items()
        if not plan.group(variant).startswith(TUNING)
    }
    rates = {
        (setting(variant), readings): own.train.learning_rate
        for variant, own in params.items()
        for readings in own.readings
    }
    without = _without(params)
    found = []
    for variant in (one for one in params if plan.group(one) not in ELSEWHERE):
        one, none = setting(variant), without[variant]
        changes = {k: v for k, v in plan.variants[variant].items() if k not in OF_LENGTH}
        for readings, together in product(params[variant].readings, _shown(params[variant])):
            ours, theirs = together(one), none and together(none)
            with suppress(NotRunError):
                loss = results.loss(ours, readings)
                effect = _effect(results, ours, theirs, readings)
                rate_of_none = rates[none, readings] if none and effect else None
                own = rates[one, readings]
                found.append(Explored(ours, readings, changes, own, loss, rate_of_none, effect))
    return found


def _shown(params: RunParams) -> list[Callable[[str], str]]:
    """What makes of a setting those that are shown of it: itself, or its ensembles of each size."""
    if not params.members:
        return [str]
    return [partial(ensemble, members=number + 1) for number in range(params.members)]


@dataclass(frozen=True)
class LeftOn:
    """Dropout left on while a setting of one length is measured.

    passes  with other masks, whose probabilities are averaged
    loss    on the test documents, in nats a token
    effect  beside dropout off, by the same weights
    """

    setting: str
    readings: int
    passes: int
    loss: float
    effect: Difference


def left_on(results: Results) -> list[LeftOn]:
    return [
        LeftOn(
            setting,
            readings,
            passes,
            results.mean(sums),
            difference(sums - losses.test, results),
        )
        for setting, lengths in results.settings.items()
        for readings, losses in lengths.items()
        for passes, sums in sorted(losses.monte_carlo.items())
    ]


def _without(params: dict[str, RunParams]) -> dict[str, str | None]:
    """Of each variant the setting that differs from it in having no dropout."""

    def alike(variant: str, changes: dict[str, Any]) -> str:
        values = dotted(params[variant].model_dump()) | changes
        return repr([value for key, value in sorted(values.items()) if key not in LEFT_OUT])

    # The first: what is measured more often besides comes later in a plan.
    there = {alike(variant, {}): setting(variant) for variant in reversed(params)}
    return {variant: there.get(alike(variant, WITHOUT)) for variant in params}


def _effect(results: Results, ours: str, none: str | None, readings: int) -> Difference | None:
    if none is None or none == ours or readings not in results.settings.get(none, ()):
        return None
    return compared(results.test(ours, readings) - results.test(none, readings), results)
