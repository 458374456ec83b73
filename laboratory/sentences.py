"""The result in sentences, at the head of the page."""

from laboratory import tables
from laboratory.by_length import Best, Row
from laboratory.claims import PASSES
from laboratory.explored import LeftOn
from laboratory.worth import OF_MAP, Lowest


def answer(rows: list[Row], bests: list[Best], named: dict[str, str]) -> str:
    """The best rates in a list."""
    said = []
    for stretch in stretches(rows):
        tied = [f"{named[one]}{at}" for one in named if (at := where(one, stretch)) is not None]
        not_worse = f"; not surely worse: {', '.join(tied)}" if tied else ""
        best = f"**{named[stretch[0].best]}**{not_worse}"
        said.append(f"- Read {often(stretch)}: {best}.")
    if bests:
        said.append(f"- If you may choose how often: {at_best(bests, named)}.")
    return "\n".join(said)


def beside_the_rest(lowest: Lowest | None) -> str:
    """Where something else than dropout does more, in a sentence."""
    if not lowest:
        return ""
    ours, (p, readings) = lowest.gain, lowest.map
    seeds = lowest.effect.chance.seeds
    unsure = " That is not sure." if lowest.effect.high >= 0 else ""
    return (
        f"\n\nAll of this is with {OF_MAP}: each reading parts the text into windows at "
        "other places. Of all that stands [beside it]"
        f"(#what-it-is-worth-given-the-rest), {ours.given}, read {lowest.readings} times, has the "
        f"lowest loss on the development documents. The best rate with it is **{ours.p}**. The "
        f"test loss {ours.losses[1]:.3f} is {tables.gain(lowest.effect)} nats a token below that "
        f"of p {p} with {readings} readings, the best of the map by the {seeds} seeds that both "
        f"have.{unsure}"
    )


def with_masks(on: list[LeftOn], named: dict[str, str]) -> str:
    """Where dropout left on, over PASSES passes, is better than dropout off, in a sentence."""
    better = [one for one in on if one.passes == PASSES and one.effect.high < 0]
    if not better:
        return ""
    one = min(better, key=lambda one: one.loss)
    p = named.get(one.setting.removeprefix("passes-"))
    return (
        f"\n\nWith dropout left on while it is measured, the mean of {PASSES} passes, "
        f"{f'p {p}' if p else one.setting} with {one.readings} readings has {one.loss:.3f}, "
        f"{tables.gain(one.effect)} below the same with dropout off, for {PASSES} times the work "
        "([more](#what-else-was-run))."
    )


def where(setting: str, stretch: list[Row]) -> str | None:
    """At which lengths of a stretch it is not surely worse than the best; "": all, None: none."""
    at = [str(row.readings) for row in stretch if setting in row.ties]
    if not at:
        return None
    return "" if len(at) == len(stretch) else f" at {listed(at)}"


def at_best(bests: list[Best], named: dict[str, str]) -> str:
    """The best of all beside no dropout, each with the length that suits it, in words."""
    best, none = min(bests, key=lambda one: one.development), bests[0]
    ours, theirs = with_length(named[best.setting], best), with_length("no dropout", none)
    tied = [with_length(named[one.setting], one) for one in bests if one.tied and one.effect]
    tied_too = f"; not surely worse: {', '.join(tied)}" if tied else ""
    if best.effect is None:
        return f"{theirs} is best{tied_too}"
    gain = f"{tables.gain(best.effect)} nats a token"
    if best.effect.low > 0:
        return f"{ours} was chosen, and on the test documents {theirs} is better: a gain of {gain}"
    if best.effect.high >= 0:
        return f"{ours} is not surely better than {theirs}: a gain of {gain}{tied_too}"
    return f"{ours} gains {gain} over {theirs}{tied_too}"


def with_length(name: str, one: Best) -> str:
    most = " (the most that were run)" if one.at_end else ""
    return f"{name} with {one.readings} reading{'s' * (one.readings > 1)}{most}"


def stretches(rows: list[Row]) -> list[list[Row]]:
    """Neighbours with the same best rate together."""
    found: list[list[Row]] = []
    for row in rows:
        if found and found[-1][0].best == row.best:
            found[-1].append(row)
        else:
            found.append([row])
    return found


def often(stretch: list[Row]) -> str:
    low, high = stretch[0].readings, stretch[-1].readings
    if low == high:
        return "once" if low == 1 else f"{low} times"
    return f"{low} to {high} times"


def listed(words: list[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def waiting(missing: list[int]) -> str:
    """Which lengths are not there yet, in a sentence."""
    if not missing:
        return ""
    lengths = listed(list(map(str, missing)))
    many = "readings" if missing != [1] else "reading"
    return f"\n\nTrainings of {lengths} {many} are still being made: nothing is said of them yet."
