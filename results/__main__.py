"""Make the runs that are missing, and write RESULTS.md and its plots: `python -m results`"""

from pathlib import Path

import numpy as np
import pandas as pd

from dropgpt.comparison.report import drawing, markdown
from dropgpt.params import Params
from dropgpt.tokens import tensor
from dropgpt.tokens.tensor import TokenTensor
from results import runs
from results.claims import (
    BEST,
    BEST_STEP,
    CLAIMS,
    LAST,
    OFF,
    Finding,
    Results,
    against,
    measured,
    verdict,
)
from results.runs import BASE, RATES, SEEDS, VARIANTS, many, one
from stages import run

TEMPLATE = Path(__file__).with_name("template.md")
REPORT = Path("RESULTS.md")
PLOTS = Path("docs")


def results(params: Params) -> None:
    found = runs.find_all(params.runtime)
    PLOTS.mkdir(exist_ok=True)
    draw_effects(found)
    draw_validations(found)
    text = report(found, params)
    REPORT.write_text(text, encoding="utf-8")
    print(text)


def report(found: Results, params: Params) -> str:
    base = runs.params_of(many(0), SEEDS[0])
    once = runs.params_of(one(0), SEEDS[0]).train.tokens
    tokens = tensor.read(Path("data/tokens"))
    first = found[many(0), SEEDS[0]]
    verdicts = [verdict(claim, found) for claim in CLAIMS]
    read = base.train.steps * base.train.batch_size * base.model.n_ctx
    return TEMPLATE.read_text(encoding="utf-8").format(
        base=base,
        once=once,
        epochs=read / (base.train.tokens or read),
        parameters=first.outcome["parameters"],
        source=params.data.source,
        documents=len(first.documents),
        held_out=first.documents.tokens.sum(),
        unseen=share_unseen(tokens, base.train.tokens),
        unseen_once=share_unseen(tokens, once),
        validations=len(first.validations),
        runs=len(found),
        seeds=", ".join(map(str, SEEDS)),
        n_seeds=len(SEEDS),
        agree=verdicts.count("agrees"),
        disagree=verdicts.count("disagrees"),
        cannot_tell=verdicts.count("cannot tell"),
        claims=markdown(claims_table(found, verdicts)),
        variants=markdown(variants_table(found)),
        shared=changes(BASE),
        own="\n".join(f"- {name}: {changes(own)}" for name, own in VARIANTS.items()),
        environment=first.environment,
        packages=", ".join(
            f"{name} {version}" for name, version in first.environment["packages"].items()
        ),
    )


def share_unseen(tokens: TokenTensor, read: int | None) -> float:
    """The share of the held-out tokens that never occur in the first `read` for training."""
    return float(1 - np.isin(tokens.held_out, tokens.train[:read]).mean())


def claims_table(found: Results, verdicts: list[str]) -> pd.DataFrame:
    rows = [
        {
            "": str(number),
            "claim": claim.text,
            "source": claim.source,
            "expected": claim.expected,
            "found": "<br>".join(described(finding, found) for finding in claim.findings),
            "verdict": f"**{said}**",
        }
        for number, (claim, said) in enumerate(zip(CLAIMS, verdicts, strict=True), 1)
    ]
    return pd.DataFrame(rows)


def described(finding: Finding, found: Results) -> str:
    difference = measured(finding.terms, found)
    digits, unit = (0, " steps") if finding.in_steps else (3, "")
    figures = [f"{x:+.{digits}f}" for x in (difference.nats, difference.low, difference.high)]
    return "{}: {} ({} to {}){}".format(finding.label, *figures, unit)


def variants_table(found: Results) -> pd.DataFrame:
    """Mean and standard deviation over the seeds."""
    rows = []
    for variant in VARIANTS:
        of = [found[variant, seed] for seed in SEEDS]
        nats = [each.documents[OFF].sum() / each.documents.tokens.sum() for each in of]
        rows.append(
            {
                "variant": variant,
                "best": spread([each.outcome[BEST] for each in of]),
                "best step": spread([each.outcome[BEST_STEP] for each in of], digits=0),
                "last": spread([each.outcome[LAST] for each in of]),
                "held-out": spread(nats),
            }
        )
    return pd.DataFrame(rows)


def spread(values: list[float], digits: int = 3) -> str:
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"


def changes(of: runs.Changes) -> str:
    return ", ".join(f"`{key}={value}`" for key, value in of.items())


def draw_effects(found: Results) -> None:
    """The loss of each rate less that of p = 0, with its interval."""
    with drawing(PLOTS / "effects.svg", "dropout p", "loss less that at p = 0 (nats)") as axes:
        for aside, label, variant, measure, style, color in (
            (-0.004, "many epochs, last step", many, OFF, "o-", "tab:blue"),
            (0, "many epochs, best", many, BEST, "o--", "tab:blue"),
            (0.004, "one epoch", one, OFF, "s-", "tab:orange"),
        ):
            effects = [measured(against(variant(p), variant(0), measure), found) for p in RATES]
            rates = [rate + aside for rate in RATES]
            means = [effect.nats for effect in effects]
            reach = [effect.nats - effect.low for effect in effects]  # as far as to the high end
            axes.errorbar(rates, means, reach, fmt=style, color=color, capsize=3, label=label)
        axes.axhline(0, color="gray", linewidth=0.7)


def draw_validations(found: Results) -> None:
    """The mean over the seeds at each validation but the first: many epochs solid, one broken."""
    with drawing(PLOTS / "validations.svg", "step", "held-out loss (nats a token)") as axes:
        for number, rate in enumerate((0, *RATES)):
            for variant, style, label in ((many, "-", f"p = {rate}"), (one, "--", None)):
                validations = pd.concat(found[variant(rate), seed].validations for seed in SEEDS)
                mean = validations.groupby("step").validation_loss.mean().iloc[1:]
                axes.plot(mean.index, mean, style, color=f"C{number}", linewidth=1, label=label)


if __name__ == "__main__":
    run(results)
