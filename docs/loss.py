"""Draw docs/loss.svg from the curves in metrics/: `python docs/loss.py`"""

from pathlib import Path

import pandas as pd

from dropgpt.comparison.tables import drawing

ROOT = Path(__file__).parent.parent
steps = pd.read_csv(ROOT / "metrics/training.csv")
held_out = pd.read_csv(ROOT / "metrics/validation.csv")
with drawing(ROOT / "docs/loss.svg", "step", "loss (nats a token)") as axes:
    axes.plot(steps.step, steps.loss, color="tab:blue", alpha=0.25, linewidth=0.7)
    smooth = steps.loss.rolling(20, center=True).mean()
    axes.plot(steps.step, smooth, color="tab:blue", label="training, dropout on (mean of 20 steps)")
    axes.plot(
        held_out.step,
        held_out.validation_loss,
        "o-",
        color="tab:orange",
        ms=3,
        label="held-out",
    )
