"""Optuna looks for better parameters: each trial is an experiment of DVC's.

`python examples/search.py` in the project's root, or cell by cell in VS Code, or in Jupyter with
jupytext. It takes the extra `search`:
`python -m pip install --constraint constraints.txt --editable '.[search]'`. Stopped or killed, the
same command goes on: runs/search.db has the trials. Remove that file to begin anew.
"""

# %%
import json
from pathlib import Path

from dropgpt.errors import UserError
from dropgpt.params import DropoutSites, dotted, load
from dropgpt.terminal import remove, status

try:
    import optuna
    from optuna.distributions import FloatDistribution
    from optuna.trial import FrozenTrial, TrialState
except ImportError:
    raise SystemExit(
        "error: Optuna is not installed: python -m pip install --constraint constraints.txt "
        "--editable '.[search]'"
    ) from None

AFRESH = "put it back, or remove runs/search.db to begin anew"
TRIALS = 20  # each takes as long as `dvc exp run` does
SPACE = {
    "model.dropout": FloatDistribution(0.0, 0.5, step=0.05),
    "train.learning_rate": FloatDistribution(1e-3, 1e-2, log=True),
}
Path("runs").mkdir(exist_ok=True)
storage = "sqlite:///runs/search.db"
study = optuna.create_study(storage=storage, study_name="search", load_if_exists=True)

# %% [markdown]
# ## A trial
# One that was cut off comes first: it keeps its parameters, and its training goes on from the
# checkpoint. What is asked for depends on the trials before it alone.


# %%
def next_trial() -> FrozenTrial:
    if not study.get_trials(states=[TrialState.RUNNING]):
        study.sampler = optuna.samplers.TPESampler(n_startup_trials=5, seed=len(study.trials))
        study.ask(SPACE)
    return study.get_trials(states=[TrialState.RUNNING])[0]


def run(trial: FrozenTrial) -> float:
    name = f"search-{trial.number}"
    try:
        params = load(Path("params.yaml"))
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    # Whatever an earlier experiment has left there, one rate holds at all sites, and the model that
    # is trained is measured.
    sites = {f"model.dropout_sites.{site}": "null" for site in DropoutSites.model_fields}
    stride = min(params.evaluate.stride, params.model.n_ctx)
    values = trial.params | sites | {"evaluate.model": "null", "evaluate.stride": stride}
    every = dotted(params.model_dump(exclude={"sample", "runtime"})).items()
    all_else = {key: value for key, value in every if key not in values}
    if study.user_attrs.get("params", all_else) != all_else:  # the best might be of others
        raise SystemExit(f"error: params.yaml is not what it was for the trials before: {AFRESH}")
    study.set_user_attr("params", all_else)
    settings = [word for key, value in values.items() for word in ("-S", f"{key}={value}")]
    # Where it was cut off at its very end, the name is taken; DVC's run-cache has the results.
    remove(name)
    if status("dvc", "exp", "run", "--name", name, *settings):
        study.tell(trial.number, state=TrialState.FAIL)
        raise SystemExit("it failed, as it says above; the same command goes on with another trial")
    return float(json.loads(Path("metrics/evaluate.json").read_text())["bits_per_byte"])


while len(study.get_trials(states=[TrialState.COMPLETE])) < TRIALS:
    trial = next_trial()
    study.tell(trial.number, run(trial))

# %% [markdown]
# ## The best
# It was chosen on the held-out part, by one seed. Before you believe it, run it and the default
# with other seeds, and let `dropgpt compare` judge.

# %%
print(study.trials_dataframe(("number", "value", "params", "state")).to_string(index=False))
best = f"search-{study.best_trial.number}"
print(f"best: {study.best_params}; `dvc exp apply {best}` brings it into the workspace")
