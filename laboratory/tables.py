"""The tables of the page."""

import math

import pandas as pd

from dropgpt.comparison.interval import Difference, bonferroni
from laboratory.by_length import Best, Row
from laboratory.claims import CLAIMS
from laboratory.explored import Explored, LeftOn
from laboratory.judge import NOT, Claim, Verdict
from laboratory.worth import Gain


def told(found: Difference) -> str:
    return f"{found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def use(rows: list[Row], named: dict[str, str]) -> pd.DataFrame:
    """What to set, by how often the text is read."""
    return pd.DataFrame(
        {
            "readings": str(row.readings),
            "best p": f"**{named[row.best]}**",
            "not surely worse": ", ".join(named[one] for one in row.ties) or "-",
            "gain over p 0, nats a token": gain(row.gain) if row.gain else "0",
            "change of perplexity": f"{math.expm1(row.gain.mean):+.1%}" if row.gain else "0",
            "test loss": f"{row.loss:.3f}",
        }
        for row in rows
    )


def gain(found: Difference) -> str:
    """Above 0 where the loss is lower."""
    return f"{-found.mean:.3f} ({-found.high:.3f} to {-found.low:.3f})"


def bests(each: list[Best], named: dict[str, str]) -> pd.DataFrame:
    best = min(each, key=lambda one: one.development)
    return pd.DataFrame(
        {
            "p": named[one.setting],
            "readings": f"{one.readings}{', the most that were run' * one.at_end}",
            "chosen again": ", ".join(f"{n}: {rounded(share)}" for n, share in one.chosen.items()),
            "test loss": f"{one.loss:.3f}",
            "beside the best": "**the best**"
            if one is best
            else "not surely worse"
            if one.tied
            else "worse",
            "gain over p 0 at its best, nats a token": gain(one.effect) if one.effect else "0",
        }
        for one in each
    )


def rounded(share: float) -> str:
    return f"{share:.0%}" if share >= 0.005 else "< 1%"


def worth(gains: dict[int, list[Gain]]) -> pd.DataFrame:
    """The gain of the best rate given the rest, by length."""
    return pd.DataFrame(
        {
            "given": one.given,
            "readings": str(readings),
            "best p": f"**{one.p}**",
            "seeds": str(len(one.seeds)),
            "test loss without": f"{one.losses[0]:.3f}",
            "with": f"{one.losses[1]:.3f}",
            "gain, nats a token": gain(one.found) if one.found else "0",
        }
        for readings, each in gains.items()
        for one in each
    )


def beside_none(rows: list[Row], named: dict[str, str]) -> pd.DataFrame:
    _, *others = named
    return pd.DataFrame(
        {"readings": str(row.readings)}
        | {f"p {named[one]}": told(row.effects[one]) for one in others}
        for row in rows
    )


def explored(each: list[Explored]) -> pd.DataFrame:
    """What else was run."""
    return pd.DataFrame(
        {
            "run": one.setting,
            "changes": ", ".join(f"`{key}={value}`" for key, value in one.changes.items()),
            "readings": str(one.readings),
            "learning rate": f"{one.learning_rate:g}",
            "test loss": f"{one.loss:.3f}",
            "beside": one.beside or "",
            "its learning rate": "" if one.rate_beside is None else f"{one.rate_beside:g}",
            "less that, nats a token": told(one.effect) if one.effect else "",
        }
        for one in each
    )


def left_on(each: list[LeftOn]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "run": one.setting,
            "readings": str(one.readings),
            "passes": str(one.passes),
            "test loss": f"{one.loss:.3f}",
            "less that with dropout off, nats a token": told(one.effect),
        }
        for one in each
    )


def power(claim: Claim, said: Verdict) -> str:
    """How far inside its region a number had to lie to be found, and whether it goes in there.

    Nothing where nothing varied, as where no dropout was chosen on both sides.
    """
    assert said.found
    far, (low, high) = said.found.chance.effect_for(bonferroni(len(CLAIMS))), claim.region
    if not far:
        return ""
    return f"{far:.3f}" + (", more than there is room for" if far > (high - low) / 2 else "")


def verdict(claim: Claim, said: Verdict) -> str:
    """What is said; of what is not as good, on which side it lies."""
    if not said.found:
        return said.said
    side = ""
    if said.said == NOT and all(map(math.isfinite, claim.region)):
        side = ": it is better" if said.found.mean < 0 else ": it is worse"
    return f"**{said.said}**{side}"


def verdicts(said: list[Verdict]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "no.": str(number),
            "claim": claim.text,
            "source": claim.source,
            "verdict": verdict(claim, one),
            "the number, nats a token": f"{claim.number}: {told(one.found)}"
            if one.found
            else claim.number,
            "p value": "" if not one.found else "< 0.0001" if one.p < 1e-4 else f"{one.p:.4f}",
            "seen with 80% power": power(claim, one) if one.found else "",
        }
        for number, (claim, one) in enumerate(zip(CLAIMS, said, strict=True), 1)
    )
