"""How often the page would be wrong, and what it would find: `python -m laboratory.simulate SIZE`

Pages of as many claims as there are, with the spreads that the claims' runs have.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dropgpt.comparison.interval import Chance, Difference, bonferroni, mean_difference
from dropgpt.errors import UserError
from dropgpt.randomness import generator
from laboratory.claims import CLAIMS
from laboratory.judge import CANNOT_TELL, Region, judge, verdicts
from laboratory.mistakes import checked
from laboratory.plan import Size, arguments
from laboratory.results import read
from stages import run

PAGES = 2000


def found(
    regions: Sequence[Region],
    chances: Sequence[Chance],
    sizes: npt.NDArray[np.int64],
    pages: int,
    planted: bool,
) -> float:
    """The share of pages with a verdict other than that nobody can tell.

    Each number lies at the edge of its region, where each verdict is false. If something is
    `planted`, the first lies inside, as far as the page says that it would see in 80%, and only
    that claim is looked at.
    """
    random = generator(0, "evaluation", "pages")
    told = 0
    for _ in range(pages):
        each = [_drawn(random, *pair, sizes) for pair in zip(regions, chances, strict=True)]
        if planted:
            effect = chances[0].effect_for(bonferroni(len(regions)))
            each[0] = _drawn(random, regions[0], chances[0], sizes, effect)
        said = [one.said for one in verdicts(regions, each)]
        told += any(one != CANNOT_TELL for one in (said[:1] if planted else said))
    return told / pages


def _drawn(
    random: np.random.Generator,
    region: Region,
    chance: Chance,
    sizes: npt.NDArray[np.int64],
    inside: float = 0.0,
) -> Difference:
    """What a claim's number would be, had it this chance and lay so far inside its region."""
    low, high = region
    number = high - inside if math.isfinite(high) else low + inside
    shares = sizes / sizes.sum()
    documents = random.normal(0, math.sqrt(chance.of_documents / (shares**2).sum()), len(sizes))
    seeds = random.normal(0, math.sqrt(chance.of_seeds), (chance.seeds, 1))
    return mean_difference((number + seeds + documents) * sizes, sizes)


def main(name: str) -> None:
    def laboratory(_: object) -> None:
        size = Size(name)
        results = read(size, checked(size))
        run_ones = [one.found.chance for one in judge(CLAIMS, results) if one.found]
        if not run_ones:
            raise UserError(
                "laboratory: no claim's group is complete, so there are no spreads to simulate: "
                f"`python -m laboratory {name}` makes what is missing"
            )
        # Claims that were not run yet have the spreads of those that were.
        chances = [run_ones[number % len(run_ones)] for number in range(len(CLAIMS))]
        regions = [claim.region for claim in CLAIMS]
        for planted, what in ((False, "a false verdict"), (True, "what was planted")):
            share = found(regions, chances, results.sizes, PAGES, planted)
            print(f"{share:.1%} of {PAGES:,} pages have {what}")

    run(laboratory)


if __name__ == "__main__":
    main(*arguments("SIZE"))
