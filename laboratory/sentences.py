"""The result in sentences, at the head of the page."""

from collections.abc import Sequence

from laboratory import tables
from laboratory.by_length import Best, Row
from laboratory.claims import PASSES
from laboratory.explored import LeftOn
from laboratory.judge import NOT, Verdict
from laboratory.results import Results
from laboratory.worth import BestEnsemble, Lowest


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
        f"\n\nAll of this is with {lowest.given}: each reading parts the text into windows at "
        "other places. [The rest](#what-it-is-worth-given-the-rest) was run at "
        f"{listed(list(map(str, lowest.lengths)))} readings only. Of all together, {ours.given}, "
        f"read {lowest.readings} times, has the lowest loss on the development documents, which "
        f"are held out for choosing. The best rate with it is **{ours.p}**. The "
        f"test loss {ours.losses[1]:.3f} is {tables.gain(lowest.effect)} nats a token below that "
        f"of p {p} with {readings} readings, the best of the map by the {seeds} seeds that both "
        f"have; the interval allows for the {lowest.among} settings that it was chosen from."
        f"{unsure}"
    )


def of_ensembles(found: BestEnsemble | None) -> str:
    """Where several models together are better than the best one, in a sentence."""
    if not found or found.effect.high >= 0:
        return ""
    (p, readings), (beside, length) = found.best, found.map
    return (
        f"\n\nAn ensemble of {found.members} models of one text, the mean of their probabilities, "
        f"has {found.loss:.3f}: with p {p} and {readings} readings each, which have the lowest "
        f"development loss of those. That is {tables.gain(found.effect)} below one model of p "
        f"{beside} with {length} readings, by {found.effect.chance.seeds} seeds, for "
        f"{found.members} models to train and to keep."
    )


def with_masks(on: list[LeftOn], named: dict[str, str]) -> str:
    """Where dropout left on, over PASSES passes, is better than dropout off, in a sentence."""
    better = [one for one in on if one.passes == PASSES and one.effect.high < 0]
    if not better:
        return ""
    one = min(better, key=lambda one: one.development)
    p = named.get(one.setting.removeprefix("passes-"))
    return (
        f"\n\nWith dropout left on while it is measured, the mean of {PASSES} passes, "
        f"{f'p {p}' if p else one.setting} with {one.readings} readings has {one.loss:.3f}, "
        f"{tables.gain(one.effect)} below the same with dropout off, for {PASSES} times the work "
        "([more](#what-else-was-run))."
    )


def notes(verdicts: Sequence[Verdict], results: Results, bests: list[Best]) -> str:
    """What a reader may not conclude from verdicts, in sentences."""
    said = []
    if verdicts[1].said == NOT:
        said.append(
            "At 16 readings 0.2 at all sites all the time is too much: it is not better than none "
            "(claim 2). So claims 7, 14 and 15 say that less is better there, and not what weight "
            "decay or a schedule does where dropout helps."
        )
    lengths = results.settings.get("muon-p0", {})
    if bests and lengths and bests[0].readings not in lengths:
        said.append(
            f"Claim 18's number may be too large: without dropout {bests[0].readings} readings are "
            f"best with AdamW, and Muon was run at {listed(list(map(str, sorted(lengths))))} only."
        )
    return "\n\n" + " ".join(said) if said else ""


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
