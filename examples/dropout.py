"""What dropout does to one activation and to attention weights.

`python examples/dropout.py` in the project's root, or cell by cell in VS Code, or in Jupyter with
jupytext. The pictures go into reports/.
"""

# %% Dropout draws from streams that are begun by (seed, purpose, step), one for each window.
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from dropgpt.model.dropout import Dropout, attention, attention_dropping_keys
from dropgpt.randomness import seed_dropout


def save(figure: Figure, file: str) -> None:
    Path(file).parent.mkdir(exist_ok=True)
    figure.savefig(file, dpi=150)
    print(f"picture: {file}")


def begin(step: int) -> None:
    """Begin the masks of one window anew: the same step, the same masks."""
    seed_dropout(1, "dropout", step, range(1), torch.device("cpu"))


# %% [markdown]
# ## One activation
# Its value is 1. In training it becomes 0 with probability p, else 1/(1-p): the mean stays 1, the
# spread is sqrt(p/(1-p)). In evaluation it stays 1.

# %%
figure, axes = plt.subplots(1, 3, figsize=(9, 3), sharey=True, layout="constrained")
for p, place in zip((0.1, 0.3, 0.5), axes, strict=True):
    begin(step=0)
    draws = Dropout(p)(torch.ones(1, 10_000))
    place.hist(draws.flatten().numpy(), bins=50, range=(0, 2.2))
    place.set(title=f"p = {p}", xlabel="value")
    print(f"p = {p}: mean {draws.mean():.3f}, spread {draws.std():.3f}, largest {draws.max():.3f}")
print("in evaluation:", Dropout(0.5).eval()(torch.ones(1, 3)).tolist())
save(figure, "reports/activation.png")

# %% [markdown]
# ## The masks of a training
# One row a step, white where an activation is dropped. Another step draws another mask; a step
# that is made again, after a crash say, draws the same.

# %%
masks = []
for step in range(12):
    begin(step)
    masks.append(Dropout(0.3)(torch.ones(1, 48)) > 0)
begin(step=5)
print("step 5 again is the same:", torch.equal(Dropout(0.3)(torch.ones(1, 48)) > 0, masks[5]))
figure, place = plt.subplots(figsize=(9, 3), layout="constrained")
place.imshow(torch.cat(masks), cmap="Blues")
place.set(xlabel="activation", ylabel="step", title="kept at p = 0.3")
save(figure, "reports/masks.png")

# %% [markdown]
# ## Attention weights
# Each row is a position and how much it looks at each position up to itself. The values are the
# identity matrix here, so that what attention returns is its weights. Where weights are dropped,
# a row no longer sums to 1; where keys are dropped before the softmax, it does.

# %%
random = torch.Generator().manual_seed(1)
time = 16
q, k = torch.randn(2, 1, 1, time, time, generator=random)  # (batch, heads, time, width) each
v = torch.eye(time).expand(1, 1, time, time)
begin(step=0)
shown = {
    "no dropout": attention(q, k, v, rate=0.0, is_causal=True),
    "weights dropped, p = 0.3": attention(q, k, v, rate=0.3, is_causal=True),
    "keys dropped, p = 0.3": attention_dropping_keys(q, k, v, rate=0.3),
}
figure, axes = plt.subplots(1, 3, figsize=(9, 3.8), layout="constrained")
for (name, weights), place in zip(shown.items(), axes, strict=True):
    place.imshow(weights[0, 0], cmap="Blues", vmin=0, vmax=1)
    place.set(title=name, xlabel="looks at position", ylabel="position")
    sums = weights[0, 0].sum(-1)
    print(f"{name}: rows sum to {sums.min():.2f} to {sums.max():.2f}")
save(figure, "reports/attention.png")
