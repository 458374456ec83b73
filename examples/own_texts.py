"""From your own texts to a model, what it writes, and a report.

Put your texts into corpora/, then `python examples/own_texts.py` in the project's root, or cell by
cell in VS Code, or in Jupyter with jupytext. docs/your-texts.md lists the formats.
"""

# %%
import math
from glob import glob
from pathlib import Path

from dropgpt.errors import UserError
from dropgpt.params import NAMELESS, DropoutSites, load
from dropgpt.terminal import remove, run, set_aside
from dropgpt.tokens import tensor

TEXTS = "corpora/*.txt"  # a name or a glob
READINGS = 8  # how often the model reads them

# %% [markdown]
# ## How much text is it?
# An experiment leaves its parameters in params.yaml, so what an earlier one may have set otherwise
# is said here, too: which model is measured, at what stride, and that all sites have one rate.

# %%
try:
    params = load(Path("params.yaml"))
except UserError as error:
    raise SystemExit(f"error: {error}") from None
if not glob(TEXTS, recursive=True):  # or the experiment would leave its settings in params.yaml
    raise SystemExit(f"error: no file matches {TEXTS}: put your texts there")
chosen = "-S data.source=files"
chosen += "".join(f" -S 'data.{k}={v or 'null'}'" for k, v in (NAMELESS | {"files": TEXTS}).items())
chosen += " -S train.tokens=null -S evaluate.model=null -S sample.model=null"
chosen += f" -S evaluate.stride={min(params.evaluate.stride, params.model.n_ctx)}"
remove("only-tokens")  # of an earlier run that was stopped
run(f"dvc exp run --name only-tokens {chosen} tokenize")
remove("only-tokens")  # it has no model, so there is nothing to compare
tokens = len(tensor.read(Path("data/tokens")).train)
print(f"{tokens:,} tokens to train on")

# %% [markdown]
# ## How long to train, and how much to drop
# A step reads batch_size windows of n_ctx tokens. Dropout helps where a text is read often enough:
# the rates are those of RESULTS.md, which has found them for a small model and little text.

# %%
a_step = params.train.batch_size * params.model.n_ctx
steps = max(2, math.ceil(READINGS * tokens / a_step))
best = {1: 0.0, 2: 0.0, 4: 0.0, 6: 0.0, 8: 0.0, 12: 0.05, 16: 0.1, 32: 0.1, 64: 0.2}  # by readings
rate = best[min(best, key=lambda readings: abs(math.log(readings / READINGS)))]
print(f"{READINGS} readings are {steps} steps; dropout {rate}")

# %%
when = f"-S train.steps={steps} -S train.warmup_steps={steps // 20}"
when += f" -S train.validation_interval={math.ceil(steps / 8)}"
drop = f"-S model.dropout={rate} -S train.dropout_schedule=constant"
drop += "".join(f" -S model.dropout_sites.{site}=null" for site in DropoutSites.model_fields)
set_aside("own-texts")
run(f"dvc exp run --name own-texts {chosen} {when} {drop}")

# %% [markdown]
# ## Did it learn more than counting does?
# The trigram only counts; a model with more bits per byte than it has not learned much.

# %%
run("dvc metrics show")

# %% [markdown]
# ## What it writes, and all in one page

# %%
print(Path("samples/samples.md").read_text())
run("dropgpt report")
