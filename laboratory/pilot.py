"""A pilot of the second size, GPT-2 small on FineWeb, as a page: `python -m laboratory.pilot`"""

import json
from pathlib import Path

import pandas as pd

from dropgpt.comparison.tables import markdown
from laboratory.pictures import colours, name, panels
from laboratory.plan import FOLDER

RUNS = FOLDER / "gpt2/pilot"
PAGE = FOLDER / "gpt2/pilot.md"
WINDOWS = {"epoch": "at fixed places", "random": "anywhere"}  # `epoch` as it was then
TEMPLATE = FOLDER / "gpt2/template.md"
PICTURE = Path("docs/pilot.svg")
HIGHEST = 1.5  # nats a token above the lowest loss, where the picture ends


def curves() -> pd.DataFrame:
    """A row a run and reading: p, windows, seed, reading, loss in nats a token."""
    parts = []
    for file in sorted(RUNS.glob("*.json")):
        found = json.loads(file.read_text(encoding="utf-8"))
        params = found["made_by"]["params"]
        train = params["train"]
        of_step = train["batch_size"] * params["model"]["n_ctx"] / (train["tokens"] - 1)
        curve = pd.Series(found["validations"]).drop("0")
        readings = (curve.index.astype(int) * of_step).to_numpy().round().astype(int)
        one = pd.DataFrame({"reading": readings, "loss": curve.to_numpy()})
        kind = {"p": params["model"]["dropout"], "windows": WINDOWS[train["sampling"]]}
        parts.append(one.assign(**kind, seed=train["seed"]))
    return pd.concat(parts)


def runs() -> pd.DataFrame:
    """A row a run: p, windows, seed; best and last loss, and after how many readings the best."""
    rows = []
    for kind, one in curves().groupby(["p", "windows", "seed"], sort=False):
        at = one.reading.iloc[one.loss.argmin()]
        last = one.iloc[-1]
        rows.append((*kind, one.loss.min(), int(at), last.loss, int(last.reading)))
    names = ["p", "windows", "seed", "best", "at reading", "last", "readings"]
    return pd.DataFrame(rows, columns=names)


def draw(file: Path) -> None:
    """The loss by reading, a line a run."""
    found = curves()
    named = {f"{p}": f"p {p:g}" for p in sorted(found.p.unique())}
    colour = colours([*named])
    top = found.loss.min() + HIGHEST
    with panels(file, found.windows.nunique()) as each:
        for axes, (windows, kind) in zip(each, found.groupby("windows"), strict=True):
            ends = {}
            axes.set_ylim(found.loss.min() - 0.05, top)
            for (p, _), one in kind.groupby(["p", "seed"]):
                axes.plot(one.reading, one.loss, color=colour[f"{p}"], marker=".")
                last = one[one.loss < top].iloc[-1]
                ends[f"{p}"] = last.reading, last.loss
            name(axes, ends, (6, 0), named, colour)
            axes.set_xlim(0.5, found.reading.max() * 1.15)
            axes.set_xticks([1, *range(5, found.reading.max() + 1, 5)])
            axes.set_title(f"windows {windows}; a line a seed", fontsize=9, loc="left")
            axes.set_ylabel("held-out loss\n(nats a token)")
        each[-1].set_xlabel("readings: how often the text has been read")


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
    draw(PICTURE)
    print(PAGE, PICTURE)
