"""A pilot of the second size, GPT-2 small on FineWeb, as a page: `python -m laboratory.pilot`"""

import json

import pandas as pd

from dropgpt.comparison.report import markdown
from laboratory.plan import FOLDER

RUNS = FOLDER / "gpt2/pilot"
PAGE = FOLDER / "gpt2/pilot.md"
WINDOWS = {"epoch": "at fixed places", "random": "anywhere"}  # `epoch` as it was then
TEMPLATE = FOLDER / "gpt2/template.md"


def runs() -> pd.DataFrame:
    """A row a run: p, windows, seed; best and last loss, and after how many readings the best."""
    rows = []
    for file in sorted(RUNS.glob("*.json")):
        found = json.loads(file.read_text(encoding="utf-8"))
        params = found["made_by"]["params"]
        train = params["train"]
        of_step = train["batch_size"] * params["model"]["n_ctx"] / (train["tokens"] - 1)
        curve = pd.Series(found["validations"]).drop("0")
        readings = (curve.index.astype(int) * of_step).to_numpy().round().astype(int)
        at = readings[curve.to_numpy().argmin()]
        kind = (params["model"]["dropout"], WINDOWS[train["sampling"]], train["seed"])
        rows.append((*kind, curve.min(), int(at), curve.iloc[-1], int(readings[-1])))
    names = ["p", "windows", "seed", "best", "at reading", "last", "readings"]
    return pd.DataFrame(rows, columns=names)


def page() -> str:
    found = runs()
    groups = found.groupby(["windows", "p"])
    table = groups.agg(
        best=("best", lambda losses: f"{losses.mean():.3f}"),
        at=("at reading", lambda at: ", ".join(map(str, at))),
        last=("last", lambda losses: f"{losses.mean():.2f}"),
        seeds=("seed", "size"),
    )
    best = groups.best.mean()["anywhere"]
    first = json.loads(min(RUNS.glob("*.json")).read_text(encoding="utf-8"))["made_by"]
    environment = first["environment"]
    return TEMPLATE.read_text(encoding="utf-8").format(
        tokens=first["params"]["train"]["tokens"] - 1,
        readings=found.readings.max(),
        gain=best[0.0] - best[0.3],
        table=markdown(table.rename(columns={"at": "at reading"}).reset_index().astype(str)),
        count=len(found),
        device=environment["device"].partition(": ")[2],
        precision=environment["precision"],
        torch=environment["packages"]["torch"],
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
