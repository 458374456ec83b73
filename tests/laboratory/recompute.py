"""The main table of the laboratory's page, computed once more and by nothing but its runs' files.

`python tests/laboratory/recompute.py laboratory/small` prints it. No line of the project's own code
is used: numbers come from JSON and YAML, quantiles from scipy, the formulas from docs/verdicts.md.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML
from scipy import optimize, stats

Runs = dict[float, dict[int, dict[int, dict]]]  # by p, length and seed what a run found


def read(folder: Path) -> tuple[Runs, np.ndarray]:
    """Of the map's runs those lengths that the plan has for them; a file may hold older ones."""
    runs: Runs = defaultdict(lambda: defaultdict(dict))
    sizes = np.zeros(0)
    plan = YAML(typ="safe").load(folder / "plan.yaml")
    group = plan["groups"]["map"]
    for variant in group["variants"]:
        files = [folder / f"runs/{variant}-{seed}.json" for seed in group["seeds"]]
        if not all(file.exists() for file in files):
            continue
        for file, seed in zip(files, group["seeds"], strict=True):
            found = json.loads(file.read_text())
            sizes = np.array(found["documents"]["test"]["tokens"])
            p = found["made_by"]["params"]["model"]["dropout"]
            for readings in (plan["base"] | plan["variants"][variant])["readings"]:
                runs[p][readings][seed] = found["lengths"][str(readings)]
    return runs, sizes


def development(seeds: dict[int, dict]) -> float:
    return float(np.mean([one["development"] for one in seeds.values()]))


def test(seeds: dict[int, dict]) -> np.ndarray:
    return np.array([seeds[seed]["test"] for seed in sorted(seeds)])


class Apart:
    """By how much two settings differ, with the bound of Banerjee (1960) as its interval."""

    def __init__(self, ours: np.ndarray, theirs: np.ndarray, sizes: np.ndarray) -> None:
        each = ours - theirs
        by_seed = each.sum(1) / sizes.sum()
        of_documents = each.mean(0)
        self.mean = by_seed.mean()
        left_out = (of_documents.sum() - of_documents) / (sizes.sum() - sizes)
        self.documents = ((left_out - self.mean) ** 2).sum()
        self.seeds = by_seed.var(ddof=1) / len(by_seed)
        self.degrees = (sizes.sum() ** 2 / (sizes**2).sum() - 1, len(by_seed) - 1)

    def half(self, p: float = 0.05) -> float:
        t = [stats.t.isf(p / 2, free) for free in self.degrees]
        return float(np.sqrt(self.documents * t[0] ** 2 + self.seeds * t[1] ** 2))

    def p_value(self) -> float:
        if self.half(1e-12) < abs(self.mean):
            return 1e-12
        return float(optimize.brentq(lambda p: self.half(p) - abs(self.mean), 1e-12, 1))


def row(runs: Runs, sizes: np.ndarray, readings: int) -> list[str]:
    best = min(runs, key=lambda p: development(runs[p][readings]))
    ours = test(runs[best][readings])
    others = {p: Apart(test(runs[p][readings]), ours, sizes) for p in runs if p != best}
    ties, sure = [], True
    for left, p in enumerate(sorted(others, key=lambda p: others[p].p_value())):
        sure = sure and others[p].p_value() <= 0.05 / (len(others) - left)
        if not sure or others[p].mean < 0:
            ties.append(p)
    loss = f"{ours.sum(1).mean() / sizes.sum():.3f}"
    name = [str(readings), f"**{best:g}**", ", ".join(f"{p:g}" for p in sorted(ties)) or "-"]
    if best == 0:
        return [*name, "0", "0", loss]
    gain = Apart(test(runs[0.0][readings]), ours, sizes)
    half = gain.half(0.05 / len(others))  # it is the best of so many
    ends = gain.mean - half, gain.mean + half
    return [
        *name,
        f"{gain.mean:.3f} ({ends[0]:.3f} to {ends[1]:.3f})",
        f"{np.expm1(-gain.mean):+.1%}",
        loss,
    ]


def table(folder: Path) -> list[str]:
    runs, sizes = read(folder)
    shared = set.intersection(*(set(lengths) for lengths in runs.values()))
    return [f"| {' | '.join(row(runs, sizes, readings))} |" for readings in sorted(shared)]


if __name__ == "__main__":
    print("\n".join(table(Path(sys.argv[1]))))
