"""Which learning rate suits which rate of dropout and length: `python -m laboratory.rates SIZE`"""

import pandas as pd

from dropgpt.errors import UserError
from dropgpt.params import Params
from laboratory.plan import TUNING, Size, arguments
from laboratory.results import table
from stages import run


def tuned(tried: pd.DataFrame) -> pd.DataFrame:
    """Of each length and rate of dropout the learning rate with the lowest development loss.

    `tried` is as `results.table` gives it. Columns: readings, p, learning_rate, development, and
    edge: whether it is the lowest or the highest that was tried, so that one beyond it may be
    better.
    """
    means = tried.groupby(["readings", "p", "learning_rate"]).development.mean().reset_index()
    groups = means.groupby(["readings", "p"])
    best = means.loc[groups.development.idxmin()].reset_index(drop=True)
    ends = groups.learning_rate.agg(["min", "max"]).reset_index()
    at_an_end = (best.learning_rate == ends["min"]) | (best.learning_rate == ends["max"])
    return best.assign(edge=at_an_end)


def main(name: str) -> None:
    def laboratory(params: Params) -> None:
        size = Size(name)
        plan = size.load()
        groups = [group for group in plan.groups if group.startswith(TUNING)]
        tried = {group: table(size, plan, plan.groups[group].variants) for group in groups}
        if all(each.empty for each in tried.values()):
            raise UserError(
                f"laboratory: no run of the group {TUNING} has been made: "
                f"`python -m laboratory {name}` makes them"
            )
        for group, each in tried.items():
            if not each.empty:
                print(f"{group}:\n{tuned(each).to_string(index=False)}")

    run(laboratory)


if __name__ == "__main__":
    main(*arguments("SIZE"))
