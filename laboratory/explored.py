"""What else was run, for its own sake: numbers with intervals and no verdict."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

from dropgpt.comparison.interval import Difference
from dropgpt.params import DropoutSites, dotted
from laboratory.judge import compared, difference
from laboratory.plan import OF_LENGTH, TUNING, Plan, RunParams, setting
from laboratory.results import NotRunError, Results, ensemble
from laboratory.worth import RATES

ELSEWHERE = ("map", "decays", "fixed", "passes")  # groups that have tables of their own
SITES = [f"model.dropout_sites.{site}" for site in DropoutSites.model_fields]
LEFT_OUT = (*OF_LENGTH, "train.seed", "monte_carlo")
UNTOLD = (*OF_LENGTH, "members")  # by the name of a setting, or another column
# Without any dropout, when and of what it is does not matter.
AT_ALL_SITES: dict[str, Any] = dict.fromkeys(SITES)
WITHOUT = AT_ALL_SITES | {
    "model.dropout": 0.0,
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
    beside         the setting of no dropout, all else alike, or, where dropout is left out at some
                   sites, that with all of them; None of no dropout itself, and where it was not run
    rate_beside    the learning rate of that
    effect         less that
    """

    setting: str
    readings: int
    changes: dict[str, Any]
    learning_rate: float
    loss: float
    beside: str | None
    rate_beside: float | None
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
    beside = _beside(params)
    found = []
    for variant in (one for one in params if plan.group(one) not in ELSEWHERE):
        one, none = setting(variant), beside[variant]
        changes = {k: v for k, v in plan.variants[variant].items() if k not in UNTOLD}
        lengths = [n for n in params[variant].readings if not _of_worth(one, n, results)]
        for readings, together in product(lengths, _shown(params[variant])):
            ours, theirs = together(one), none and together(none)
            with suppress(NotRunError):
                loss = results.loss(ours, readings)
                effect = _effect(results, ours, theirs, readings)
                rate = rates[none, readings] if none and effect else None
                own, of = rates[one, readings], theirs if effect else None
                found.append(Explored(ours, readings, changes, own, loss, of, rate, effect))
    return found


def _of_worth(setting: str, readings: int, results: Results) -> bool:
    """Whether it is of ensembles of all rates, which the table of what dropout is worth has."""
    each = [f"ensembles-{p}" for p in RATES]
    return setting in each and all(
        readings in results.settings.get(ensemble(one, 1), ()) for one in each
    )


def _shown(params: RunParams) -> list[Callable[[str], str]]:
    """What makes of a setting those that are shown of it: itself, or its ensembles of each size."""
    if not params.members:
        return [str]
    return [partial(ensemble, members=number + 1) for number in range(params.members)]


@dataclass(frozen=True)
class LeftOn:
    """Dropout left on while a setting of one length is measured.

    passes       with other masks, whose probabilities are averaged
    development  the loss with dropout off, by which it is chosen, in nats a token
    loss         on the test documents, in nats a token
    effect       beside dropout off, by the same weights
    """

    setting: str
    readings: int
    passes: int
    development: float
    loss: float
    effect: Difference


def left_on(results: Results) -> list[LeftOn]:
    return [
        LeftOn(
            setting,
            readings,
            passes,
            results.development(setting, readings),
            results.mean(sums),
            difference(sums - losses.test, results),
        )
        for setting, lengths in results.settings.items()
        for readings, losses in lengths.items()
        for passes, sums in sorted(losses.monte_carlo.items())
    ]


def _beside(params: dict[str, RunParams]) -> dict[str, str | None]:
    """Of each variant the setting that it is compared with, as `Explored` has it."""

    def alike(variant: str, changes: dict[str, Any]) -> str:
        values = dotted(params[variant].model_dump()) | changes
        return repr([value for key, value in sorted(values.items()) if key not in LEFT_OUT])

    # The first: what is measured more often besides comes later in a plan.
    there = {alike(variant, {}): setting(variant) for variant in reversed(params)}
    return {
        variant: there.get(alike(variant, AT_ALL_SITES if _leaves_out(own) else WITHOUT))
        for variant, own in params.items()
    }


def _leaves_out(params: RunParams) -> bool:
    """Whether some sites are without dropout that all would have."""
    return params.model.dropout > 0 and 0 in params.model.dropout_sites.model_dump().values()


def _effect(results: Results, ours: str, none: str | None, readings: int) -> Difference | None:
    if none is None or none == ours or readings not in results.settings.get(none, ()):
        return None
    return compared(results.test(ours, readings) - results.test(none, readings), results)
