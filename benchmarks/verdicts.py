"""How often the verdicts of `dropgpt compare` and `try` are right, by simulation.

`python -m benchmarks.verdicts` prints the tables of docs/verdicts.md; it takes minutes.
"""

from dataclasses import dataclass, field
from functools import cache

import numpy as np
import numpy.typing as npt

from dropgpt.comparison.interval import Difference, bonferroni, mean_difference, pocock

SIMULATIONS = 20_000


@dataclass(frozen=True)
class Spread:
    """What runs differ by without a change, standard deviations in bits per byte.

    of_seed      one run's mean beside another's
    of_document  what a change does to one document, or article, beside another
    noise        one run's loss on one of them
    sizes        of the documents, in bytes
    """

    of_seed: float
    of_document: float
    noise: float
    sizes: npt.NDArray[np.int64] = field(default_factory=lambda: 4 * np.arange(20, 60))


# The ten articles that the default holds out.
ARTICLES = np.array([70582, 14407, 23661, 44805, 3117, 41952, 1636, 91600, 4749, 41475])
# Three seeds of the default run spread by 0.005 nats a token, which are 0.0015 bits per byte; and
# the effect of dropout left on by 0.0017 between articles.
DEFAULT = Spread(of_seed=0.0015, of_document=0.0017, noise=0.001, sizes=ARTICLES)
SEEDS_ONLY = Spread(of_seed=0.0015, of_document=0.0, noise=0.0)
EVEN = Spread(of_seed=0.0015, of_document=0.008, noise=0.001)
DOCUMENTS_ONLY = Spread(of_seed=0.0, of_document=0.008, noise=0.0)
UNEQUAL = Spread(of_seed=0.0, of_document=0.008, noise=0.0, sizes=100 * 2 ** np.arange(6))
SPREADS = {
    "as the default run": DEFAULT,
    "seeds only": SEEDS_ONLY,
    "documents as much": EVEN,
    "documents only": DOCUMENTS_ONLY,
    "six unequal documents only": UNEQUAL,
}


def differences(
    random: np.random.Generator, spread: Spread, seeds: int, groups: int, effect: float
) -> npt.NDArray[np.float64]:
    """What groups differ by from one baseline: (groups, seeds, documents), in bits."""
    shape = (1 + groups, seeds, len(spread.sizes))
    runs = random.normal(0, 1, (*shape[:2], 1)) * spread.of_seed
    runs = runs + random.normal(0, 1, shape) * spread.noise
    changes = effect + random.normal(0, 1, (groups, 1, shape[2])) * spread.of_document
    return (runs[1:] + changes - runs[0]) * spread.sizes


def compared(
    random: np.random.Generator, spread: Spread, seeds: int, groups: int = 1, effect: float = 0.0
) -> list[str]:
    """The verdicts of one `dropgpt compare` of so many groups beside the baseline."""
    each = differences(random, spread, seeds, groups, effect)
    return [mean_difference(one, spread.sizes, bonferroni(groups)).verdict for one in each]


def tried(
    random: np.random.Generator, spread: Spread, seeds: int, effect: float = 0.0
) -> Difference:
    """Where one `dropgpt try --seeds SEEDS` ends."""
    (drawn,) = differences(random, spread, seeds, 1, effect)
    for number in range(2, seeds + 1):
        found = mean_difference(drawn[:number], spread.sizes, _pocock(seeds))
        if found.verdict != "cannot tell":
            break
    return found


_pocock = cache(pocock)


def wrong() -> None:
    """How often something is called better or worse where nothing differs, a row a spread."""
    random = np.random.default_rng(0)
    head = "| chance | 2 seeds | 3 | 5 | 8 | 3, of 3 changes | 3, of 9 | 5, of 9 "
    print(f"{head}| `try`, 2 to 3 | `try`, 2 to 8 |\n|{'---|' * 10}")
    for name, spread in SPREADS.items():
        shares = []
        for seeds, groups in ((2, 1), (3, 1), (5, 1), (8, 1), (3, 3), (3, 9), (5, 9)):
            verdicts = [compared(random, spread, seeds, groups) for _ in range(SIMULATIONS)]
            shares.append(np.mean([set(each) != {"cannot tell"} for each in verdicts]))
        for seeds in (3, 8):
            ends = [tried(random, spread, seeds) for _ in range(SIMULATIONS)]
            shares.append(np.mean([end.verdict != "cannot tell" for end in ends]))
        print(f"| {name} | {' | '.join(f'{share:.1%}' for share in shares)} |", flush=True)


def found() -> None:
    """How often a change is found, by its size in standard deviations of a run between seeds."""
    random = np.random.default_rng(1)
    print("| size | 3 seeds | 5 | 8 | 3, of 3 changes | `try`, 2 to 8 |\n|---|---|---|---|---|---|")
    for size in (1, 2, 4, 8):
        effect = -size * DEFAULT.of_seed
        shares = []
        for seeds, confidence in (
            (3, bonferroni(1)),
            (5, bonferroni(1)),
            (8, bonferroni(1)),
            (3, bonferroni(3)),
        ):
            drawn = (differences(random, DEFAULT, seeds, 1, effect)[0] for _ in range(SIMULATIONS))
            verdicts = [mean_difference(one, DEFAULT.sizes, confidence).verdict for one in drawn]
            shares.append(f"{verdicts.count('better') / SIMULATIONS:.0%}")
        ends = [tried(random, DEFAULT, 8, effect) for _ in range(SIMULATIONS)]
        better = np.mean([end.verdict == "better" for end in ends])
        shares.append(f"{better:.0%}, after {np.mean([end.seeds for end in ends]):.1f} seeds")
        print(f"| {size} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    wrong()
    print()
    found()
