"""Experiments in pandas, and how to plot them.

Run some first, as the README does: `dvc exp run --queue -S 'model.dropout=0.0,0.1' ...`. Then
`python examples/experiments.py` in the project's root, or cell by cell in VS Code or Jupyter.
Nothing is checked out. The pictures go into reports/.
"""

# %%
import io
from pathlib import Path

import dvc.api
import matplotlib.pyplot as plt
import pandas as pd

from dropgpt.comparison import experiments, statistics
from dropgpt.machine.repository import since_head

BY = "model.dropout"
Path("reports").mkdir(exist_ok=True)

# %% [markdown]
# ## DVC's table
# A row an experiment, a column a parameter or a metric.

# %%
table = pd.DataFrame(dvc.api.exp_show())
table = table[table.Experiment.notna()].set_index("Experiment").convert_dtypes()
print(table[[BY, "train.seed", "perplexity"]].to_string(), "\n")

# %% [markdown]
# ## What made each result
# `read` asks the result itself which parameters made it, which params.yaml may not know. It also
# has the loss of each document, in nats.

# %%
runs = [experiments.read(name) for name in since_head()]
documents = pd.concat(
    run.documents.assign(**{"run": run.name, BY: run.made_by[BY]}) for run in runs
)
print(documents.groupby(BY)[["nats", "tokens", "bytes"]].sum().to_string(), "\n")

# %% [markdown]
# ## Is it chance?
# The table of `dropgpt compare`: the difference to the first group, with its 95% interval.

# %%
groups = statistics.groups(runs, [BY])
found = statistics.table(groups, baseline=next(iter(groups)))
print(found.to_string(index=False))
figure, place = plt.subplots(figsize=(6, 3.5), layout="constrained")
reach = [found.difference - found.low, found.high - found.difference]
place.errorbar(found.group, found.difference.fillna(0), yerr=reach, fmt="o", capsize=3)
place.axhline(0, color="gray", linewidth=0.7)
place.set(xlabel=BY, ylabel="difference (bits per byte)")
figure.savefig("reports/differences.png", dpi=150)

# %% [markdown]
# ## The curves
# What is in git, such as metrics/validation.csv, `dvc.api` reads from any experiment.

# %%
figure, place = plt.subplots(figsize=(6, 3.5), layout="constrained")
rates = list(groups)
for run in runs:
    curve = pd.read_csv(io.StringIO(dvc.api.read("metrics/validation.csv", rev=run.name)))
    label = str(run.made_by[BY])
    color = f"C{rates.index(label)}"
    place.plot(curve.step, curve.validation_loss, color=color, label=f"p = {label}")
lines = dict(zip(*reversed(place.get_legend_handles_labels()), strict=True))
place.legend(lines.values(), lines.keys(), frameon=False)
place.set(xlabel="step", ylabel="held-out loss (nats a token)")
figure.savefig("reports/validation.png", dpi=150)
