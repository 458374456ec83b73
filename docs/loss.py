"""Draw docs/loss.svg from the curves in metrics/: `python docs/loss.py`"""

import matplotlib.pyplot as plt
import pandas as pd

plt.rcParams |= {"svg.hashsalt": "dropgpt", "font.size": 9}  # the same curves, the same bytes
steps = pd.read_csv("metrics/training.csv")
looks = pd.read_csv("metrics/validation.csv")
figure, axes = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
axes.plot(steps.step, steps.loss, color="tab:blue", alpha=0.25, linewidth=0.7)
smooth = steps.loss.rolling(20, center=True).mean()
axes.plot(steps.step, smooth, color="tab:blue", label="training, dropout on (mean of 20 steps)")
axes.plot(looks.step, looks.validation_loss, "o-", color="tab:orange", ms=3, label="held-out")
axes.set(xlabel="step", ylabel="loss (nats a token)")
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False)
figure.savefig("docs/loss.svg", metadata={"Date": None})
