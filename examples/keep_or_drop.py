"""Change a parameter, let `dropgpt try` judge, keep or drop, and again.

`python examples/keep_or_drop.py` in the project's root, or cell by cell in VS Code, or in Jupyter
with jupytext. Stopped or killed, the same command goes on: runs/keep_or_drop.json has what was
judged, and params.yaml what was kept. Remove that file, and `git checkout HEAD params.yaml`, to
begin anew.
"""

# %%
import json
from pathlib import Path

from ruamel.yaml import YAML

from dropgpt.machine.files import replacing
from dropgpt.terminal import status

SEEDS = 5  # of each change at most; each takes as long as `dvc exp run` does
CHANGES = {
    "model.dropout": [0.0, 0.05],
    "train.learning_rate": [0.004, 0.002],
}
LOG = Path("runs/keep_or_drop.json")
LOG.parent.mkdir(exist_ok=True)
log = json.loads(LOG.read_text()) if LOG.exists() else []

# %% [markdown]
# ## A change
# `dropgpt try` runs it beside what params.yaml says, seed by seed. Its exit status is the verdict.
# Who tries often finds something by chance: `--tries` says how many other changes there are, so
# that all of them together are wrong in 5% of cases at most.

# %%
STATUS = {0: "better", 1: "worse", 3: "cannot tell", 4: "failed"}
changes = [(key, value) for key, values in CHANGES.items() for value in values]
if [(one["key"], one["value"]) for one in log] != changes[: len(log)]:
    raise SystemExit(f"{LOG} is of other changes: remove it to begin anew")


def judged(key: str, value: float) -> str:
    judging = ["--seeds", f"{SEEDS}", "--tries", f"{len(changes) - 1}"]
    found = status("dropgpt", "try", "-S", f"{key}={value}", *judging)
    if found not in STATUS:  # a mistake or Ctrl-C: the same command then goes on
        raise SystemExit(found)
    return STATUS[found]


def keep(key: str, value: float) -> None:
    """Write it into params.yaml, whose comments stay."""
    yaml, (section, name) = YAML(), key.split(".")
    params = yaml.load(Path("params.yaml"))
    params[section][name] = value
    with replacing(Path("params.yaml")) as partial:  # whole, the old one or the new
        yaml.dump(params, partial)


# %% [markdown]
# ## Keep or drop
# What is better stays, and the next change is tried on top of it. "Cannot tell" is no reason. A
# change with which a run fails, since its training runs away, say, is dropped.

# %%
for number, (key, value) in enumerate(changes):
    if number == len(log):  # else it was judged before, and may have been killed before it was kept
        log.append({"key": key, "value": value, "verdict": judged(key, value)})
        with replacing(LOG) as partial:
            partial.write_text(json.dumps(log, indent=2))
    if log[number]["verdict"] == "better":
        keep(key, value)

# %% [markdown]
# ## The log

# %%
for one in log:
    done = "kept" if one["verdict"] == "better" else "dropped"
    print(f"{one['key']}={one['value']}: {one['verdict']}, {done}")
