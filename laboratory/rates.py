"""Which learning rate suits which setting and length: `python -m laboratory.rates SIZE`"""

import numpy as np
import pandas as pd

from dropgpt.errors import UserError
from dropgpt.params import Params, dotted
from laboratory.explored import LEFT_OUT
from laboratory.mistakes import checked
from laboratory.plan import TUNING, Plan, Size, arguments
from laboratory.results import load
from stages import run

# What runs with a rate to be tuned, and those that then have it, differ in.
ELSE = (*LEFT_OUT, "members")


def changes(plan: Plan, variant: str) -> str:
    """What a variant changes in the base, but for its lengths and its learning rate."""
    base, own = (dotted(one) for one in (plan.base, plan.params(variant, 0).model_dump()))
    differing = {key: own[key] for key in own if key not in ELSE and own[key] != base[key]}
    return ", ".join(f"{key}={value}" for key, value in differing.items()) or "the base"


def tuned(tried: pd.DataFrame) -> pd.DataFrame:
    """Of each setting and length the learning rate with the lowest development loss.

    `tried` has the columns changes, readings, learning_rate, development, a row a run and length.
    So has what is returned, and edge: whether it is the lowest or the highest that was tried, so
    that one beyond it may be better.
    """
    of_one = ["readings", "changes"]
    means = tried.groupby([*of_one, "learning_rate"]).development.mean().reset_index()
    groups = means.groupby(of_one)
    best = means.loc[groups.development.idxmin()].reset_index(drop=True)
    ends = groups.learning_rate.agg(["min", "max"]).reset_index()
    at_an_end = (best.learning_rate == ends["min"]) | (best.learning_rate == ends["max"])
    return best.assign(edge=at_an_end)


def between(tried: pd.DataFrame) -> pd.DataFrame:
    """How far below the best learning rate's loss a finer search might get, in nats a token.

    That is where the parabola through the losses of the best rate and its two neighbours, by the
    logarithm of the rate, is lowest. A row a setting and length, with the columns readings, changes
    and lower; none where the best rate is at an end.
    """
    rows: list[tuple[int, str, float]] = []
    means = tried.groupby(["readings", "changes", "learning_rate"]).development.mean()
    for (readings, changed), losses in means.groupby(level=[0, 1]):
        at = int(losses.to_numpy().argmin())
        if 0 < at < len(losses) - 1:
            around = losses.iloc[at - 1 : at + 2]
            x, y = np.log(around.index.get_level_values("learning_rate")), around.to_numpy()
            a, b, c = np.polyfit(x - x[1], y - y[1], 2)
            rows.append((readings, changed, float(b * b / (4 * a) - c)))
    return pd.DataFrame(rows, columns=["readings", "changes", "lower"])


def tried(size: Size, plan: Plan) -> pd.DataFrame:
    """Of all runs made to tune a learning rate: changes, readings, learning_rate, development."""
    rows: list[tuple[str, int, float, float]] = []
    for variant, seeds in plan.seeds.items():
        if not plan.group(variant).startswith(TUNING):
            continue
        files = [size.run(variant, seed) for seed in seeds]
        for found in (load(file) for file in files if file.exists()):
            rate = found["made_by"]["params"]["train"]["learning_rate"]
            rows += [
                (changes(plan, variant), int(readings), rate, one["development"])
                for readings, one in found["lengths"].items()
            ]
    return pd.DataFrame(rows, columns=["changes", "readings", "learning_rate", "development"])


def of_plan(size: Size, plan: Plan) -> pd.DataFrame:
    """`tuned` of them. Raises UserError where none has been made."""
    found = tried(size, plan)
    if found.empty:
        raise UserError(
            f"laboratory: no run of the group {TUNING} has been made: `{size.command}` makes them"
        )
    return tuned(found)


def main(name: str) -> None:
    def laboratory(params: Params) -> None:
        size = Size(name)
        print(of_plan(size, checked(size)).to_string(index=False))

    run(laboratory)


if __name__ == "__main__":
    main(*arguments("SIZE"))
