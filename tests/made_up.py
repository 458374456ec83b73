"""What runs might have found, drawn by chance: the map's settings by two formulas for the loss."""

import numpy as np
import pandas as pd

from laboratory.results import Losses, Results

RATES = {"p0": 0.0, "p10": 0.1, "p30": 0.3}
NAMED = {one: f"{p:g}" for one, p in RATES.items()}
SEEDS = [1, 2, 3, 4, 5]


def results(effect: float = 1.0) -> Results:
    """Read once, dropout costs; read 4 and 16 times, it gains; by nothing if `effect` is 0."""
    random = np.random.default_rng(0)
    sizes = random.integers(60, 400, 300)
    documents = random.normal(0, 0.5, 300)
    of_seed = random.normal(0, 0.01, len(SEEDS))

    def losses(p: float, readings: int) -> Losses:
        loss = 4 + 1 / readings + effect * p * (0.4 - 0.2 * np.log2(readings))
        each = loss + of_seed + random.normal(0, 0.004, len(SEEDS))
        noise = random.normal(0, 0.03, (len(SEEDS), 300))
        test = (each[:, None] + documents + noise) * sizes
        return Losses(pd.Series(each, SEEDS), pd.DataFrame(test, SEEDS))

    settings = {one: {n: losses(p, n) for n in (1, 4, 16)} for one, p in RATES.items()}
    return Results(settings, sizes)
