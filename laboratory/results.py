"""What the runs of a size have found, read from its folder."""

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from laboratory.plan import Size


def table(size: Size, variants: Iterable[str]) -> pd.DataFrame:
    """The runs of these variants that have been made, a row a length.

    Columns: variant, seed, p (the rate of dropout), learning_rate, readings, and losses in nats a
    token: development, test, training (dropout on).
    """
    chosen = size.load()
    rows = [
        row
        for variant in variants
        for seed in chosen.seeds[variant]
        if (file := size.run(variant, seed)).exists()
        for row in _rows(file, variant, seed)
    ]
    columns = ["variant", "seed", "p", "learning_rate", "readings"]
    return pd.DataFrame(rows, columns=[*columns, "development", "test", "training"])


def _rows(file: Path, variant: str, seed: int) -> Iterable[tuple[object, ...]]:
    found = json.loads(file.read_text(encoding="utf-8"))
    params = found["made_by"]["params"]
    made_by = (variant, seed, params["model"]["dropout"], params["train"]["learning_rate"])
    tokens = sum(found["documents"]["test"]["tokens"])
    for readings, one in found["lengths"].items():
        losses = (one["development"], sum(one["test"]) / tokens, one["training"])
        yield (*made_by, int(readings), *losses)
