"""What is not compared, since nothing on the other side is alike in all else: in lines."""

from collections.abc import Iterable
from itertools import product

from dropgpt.comparison import statistics
from dropgpt.comparison.experiments import DOCUMENTS, Run
from dropgpt.comparison.statistics import SEED, Groups


def lines(groups: Groups, baseline: str, by: list[str]) -> list[str]:
    """A line for each group of which some runs are compared, and others not, or none.

    `by` are the parameters that the groups differ in; none where somebody has named them.
    """
    found = []
    for label, runs in groups.items():
        alone = statistics.unpaired(runs, groups[baseline])
        pairs = statistics.paired(runs, groups[baseline])
        if not pairs and not by:
            seeds = " and ".join(", ".join(each) for each in (runs, groups[baseline]))
            found.append(f"{label} and {baseline} have no {SEED} in common: {seeds}")
        elif not pairs:
            differ = ", ".join(_unlike(runs.values(), groups[baseline].values(), by))
            found.append(f"{label} and {baseline} are nowhere alike in all else: {differ}")
        elif alone:
            each = [_unlike([run], others.values(), by) for run, others in alone]
            keys = dict.fromkeys(key for differ in each for key in differ)
            differ = f" ({', '.join(keys)})" if keys else ""
            found.append(
                f"{', '.join(run.name for run, _ in alone)}: no counterpart of {label} or "
                f"{baseline} that is alike in all else{differ}: in the mean of its group, but not "
                "in the difference"
            )
    return found


def _unlike(ours: Iterable[Run], theirs: Iterable[Run], by: list[str]) -> list[str]:
    """In what two runs differ that are of one group each, of those two that differ in least."""
    beside = statistics.aside(by)
    each = [
        [SEED] * (our.made_by.get(SEED) != their.made_by.get(SEED))
        + [DOCUMENTS] * ("tokens" in beside and our.texts != their.texts)
        + statistics.varied([our, their])
        for our, their in product(ours, theirs)
    ]
    return min(
        ([k for k in keys if k not in beside and not k.startswith("code.")] for keys in each),
        key=len,
    )
