"""The curves of several processes laid over those of one: `python -m benchmarks.processes`

Draws docs/processes.svg, and prints by how much the losses differ. float32 with dropout; only the
order of sums differs.
"""

import subprocess
import sys

import pandas as pd

from benchmarks.whole_stages import PROJECT, STAGES, project
from dropgpt.comparison.tables import drawing

MODEL = {"n_layer": 4, "n_head": 4, "n_embd": 64, "n_ctx": 64, "dropout": 0.2}
TRAIN = {"steps": 300, "batch_size": 16, "validation_interval": 30, "precision": "float32"}
WAYS = {
    "one process": {},
    "two": {"processes": 2},
    "four": {"processes": 4},
    "four, each with a quarter of the weights": {"processes": 4, "shard_weights": True},
}


def curves(runtime: dict[str, int | bool]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """metrics/training.csv and metrics/validation.csv of a training of the offline corpus."""
    tokenize = {"vocabulary_size": 1025}
    with project(tokenize=tokenize, model=MODEL, train=TRAIN, runtime={"threads": 1} | runtime):
        for stage in STAGES[: STAGES.index("train") + 1]:
            subprocess.run([sys.executable, "-m", f"stages.{stage}"], check=True)
        return pd.read_csv("metrics/training.csv"), pd.read_csv("metrics/validation.csv")


def main() -> None:
    found = {name: curves(runtime) for name, runtime in WAYS.items()}
    training, held_out = found["one process"]
    print("| processes | training loss, largest difference (nats) | held-out loss |")
    print("|---|---|---|")
    for name, (ours, ours_held_out) in [*found.items()][1:]:
        differences = (
            (ours.loss - training.loss).abs().max(),
            (ours_held_out.validation_loss - held_out.validation_loss).abs().max(),
        )
        print(f"| {name} | {differences[0]:.1e} | {differences[1]:.1e} |")
    with drawing(PROJECT / "docs/processes.svg", "step", "loss (nats a token)") as axes:
        for width, (name, (ours, ours_held_out)) in zip((9, 6, 3, 1), found.items(), strict=True):
            (line,) = axes.plot(ours.step, ours.loss, linewidth=width, label=name)
            axes.plot(
                ours_held_out.step,
                ours_held_out.validation_loss,
                "o",
                color=line.get_color(),
                markersize=width + 3,
            )


if __name__ == "__main__":
    main()
