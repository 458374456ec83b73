"""The laboratory's dvc.yaml."""

from pathlib import Path

from laboratory.first.plan import Plan
from laboratory.pipeline import Pipeline

PIPELINE = Pipeline(Path("laboratory/first"))


def stage(chosen: Plan, variant: str, seed: int) -> str:
    """The name in the pipeline of the stage that makes this run."""
    return f"{chosen.group(variant)}@{variant}-{seed}"
