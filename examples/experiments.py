"""Experiments in pandas, and how to plot them.

Run some first, as the README does: `dvc exp run --queue -S 'model.dropout=0.0,0.1' ...`. Then
`python examples/experiments.py` in the project's root, or cell by cell in VS Code, or in Jupyter
with jupytext. Nothing is checked out. The pictures go into reports/.
"""

# %%
import io
from pathlib import Path

import dvc.api
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from dropgpt.comparison import experiments, statistics
from dropgpt.comparison.comparable import comparable
from dropgpt.machine.repository import since_head

BY = "model.dropout"


def save(figure: Figure, file: str) -> None:
    Path(file).parent.mkdir(exist_ok=True)
    figure.savefig(file, dpi=150)
    print(f"picture: {file}")


# %% [markdown]
# ## DVC's table
# A row an experiment, a column a parameter or a metric.

# %%
table = pd.DataFrame(dvc.api.exp_show())
table = table[table.Experiment.notna()].set_index("Experiment").convert_dtypes()
print(table[[BY, "train.seed", "perplexity"]].to_string(), "\n")

# %% [markdown]
# ## What made each result
# `read_all` asks the results themselves which parameters made them, which params.yaml may not
# know. Left out is what lacks the parameter, as a model from elsewhere does, what is of a stage
# that has not run since, and what was measured on other texts.

# %%
commits = since_head()
found, notes = experiments.read_all(commits.items())
notes += [note for run in found for note in run.notes]
runs, others = comparable([r for r in found if BY in r.made_by and not r.notes])
runs, equal = statistics.distinct(runs)
print(*notes, *others, *equal, sep="\n")
if not runs:
    raise SystemExit("no experiment since HEAD has a result: run some first, as the README does")
groups = statistics.groups(runs, [BY])
documents = pd.concat(
    run.documents.assign(**{BY: name}) for name, group in groups.items() for run in group.values()
)
print(documents.groupby(BY)[["nats", "tokens", "bytes"]].sum().to_string(), "\n")

# %% [markdown]
# ## Is it chance?
# The table of `dropgpt compare`: the difference to the first group, with its 95% interval.

# %%
compared = statistics.table(groups, baseline=next(iter(groups)))
print(compared.drop(columns=["more_seeds", "more_seeds_for_margin"]).to_string(index=False))
figure, place = plt.subplots(figsize=(6, 3.5), layout="constrained")
difference = compared.difference.mask(compared.verdict == "baseline", 0)
reach = [difference - compared.low, compared.high - difference]
place.errorbar(compared.group, difference, yerr=reach, fmt="o", capsize=3)
place.axhline(0, color="gray", linewidth=0.7)
place.set(xlabel=BY, ylabel="difference (bits per byte)")
save(figure, "reports/differences.png")

# %% [markdown]
# ## The curves
# What is in git, such as metrics/validation.csv, `dvc.api` reads from any experiment.

# %%
figure, place = plt.subplots(figsize=(6, 3.5), layout="constrained")
for number, (name, group) in enumerate(groups.items()):
    for run in group.values():
        # By its commit: a branch may have the name of an experiment.
        text = dvc.api.read("metrics/validation.csv", rev=commits[run.name])
        curve = pd.read_csv(io.StringIO(text))
        place.plot(curve.step, curve.validation_loss, color=f"C{number}", label=f"p = {name}")
lines = dict(zip(*reversed(place.get_legend_handles_labels()), strict=True))
place.legend(lines.values(), lines.keys(), frameon=False)
place.set(xlabel="step", ylabel="held-out loss (nats a token)")
save(figure, "reports/validation.png")
