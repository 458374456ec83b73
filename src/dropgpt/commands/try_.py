"""`dropgpt try`: whether a change is better, run seed by seed until the verdict is in."""

import re
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from dropgpt import dvc
from dropgpt.comparison import experiments, statistics
from dropgpt.comparison.comparable import SAME, check_comparable
from dropgpt.comparison.experiments import Run
from dropgpt.comparison.interval import Difference, bonferroni, pocock
from dropgpt.comparison.statistics import SEED, WITHOUT_EFFECT
from dropgpt.errors import UserError
from dropgpt.machine import provenance
from dropgpt.machine.interruption import Interrupted
from dropgpt.machine.repository import since_head, with_settings
from dropgpt.params import Params, dotted
from dropgpt.unread import unread

MOST = 20  # seeds
FAILED = 4  # the exit status where a run of the change has failed
OF_TEXTS = ("data.", "tokenize.")
MADE_OF = (*OF_TEXTS, "model.", "train.", "evaluate.")  # the sections that bear on a result
STATUS = {"better": 0, "worse": 1, "cannot tell": 3}  # 2 is a mistake, as argparse has it


class ChangeFailedError(UserError):
    """A run of the change has failed, one without it had not."""


def run(settings: list[str], seeds: int, tries: int) -> int:
    """The exit status: whether the change is better or fails, or which signal has stopped it."""
    if not 2 <= seeds <= MOST:
        raise UserError(f"try: --seeds {seeds}: it takes 2 to {MOST}")
    if tries < 0:
        raise UserError(f"try: --tries {tries} is below 0")
    _check_repository()
    settings = [one.removeprefix("params.yaml:") for one in settings]  # `dvc exp run` takes both
    before, after = _params([]), _params(settings)
    baseline, changed = _expected(before), _expected(after)
    _check(settings, baseline, changed)
    keys = [key for key in baseline if baseline[key] != changed[key]]
    _check_read(settings, keys, unread(before), unread(after))
    if any(one.startswith(OF_TEXTS) for one in settings):
        print("try: judged only if the held-out texts stay what they are", file=sys.stderr)
    confidence = pocock(seeds, bonferroni(1 + tries))
    try:
        found = _judged(settings, baseline, changed, seeds, confidence)
    except Interrupted as asked:
        print(f"try: stopped by {asked}; the same command goes on", file=sys.stderr)
        return dvc.status_of(asked)
    except ChangeFailedError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    print(f"{', '.join(settings)}: {found.verdict}, after {found.seeds} of {seeds} seeds")
    return STATUS[found.verdict]


def _judged(
    settings: list[str],
    baseline: dict[str, Any],
    changed: dict[str, Any],
    seeds: int,
    confidence: float,
) -> Difference:
    """What the last look has found."""
    known: dict[str, Run] = {}
    pairs: list[tuple[Run, Run]] = []
    for seed in range(1, seeds + 1):
        theirs = _results([], baseline, seed, known)
        ours = _results(settings, changed, seed, known)
        pairs.append(_pair(ours, theirs, settings))
        runs = [run for pair in pairs for run in pair]
        check_comparable(runs)
        _check_same_texts(pairs, settings)
        found = statistics.difference(pairs, confidence)
        print(_line(found), flush=True)
        if found.verdict in ("better", "worse"):
            break
    return found


def _check_repository() -> None:
    """Raise UserError where an experiment in a copy of it would leave no result."""
    if _git("rev-parse", "--is-shallow-repository") == "true":
        raise UserError(
            "try: this clone is shallow, and DVC loses experiments in one: `git fetch --unshallow`"
        )
    new = _git("ls-files", "--others", "--", "src/*.py", "stages/*.py")
    seen = [name for name in new.splitlines() if not re.search(r"(^|/)\.", name)]
    if seen:
        raise UserError(
            f"try: git does not know {seen[0]}, so that the copy in which an experiment runs lacks "
            "it: `git add` it, or move it away"
        )


def _git(*arguments: str) -> str:
    """What git prints. Raises UserError where it fails, as outside of a repository."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"try: `git {' '.join(arguments)}`: {done.stderr.splitlines()[0]}")
    return done.stdout.strip()


def _check(settings: list[str], baseline: dict[str, Any], changed: dict[str, Any]) -> None:
    """Raise UserError where the change is none that can be tried."""
    if baseline["evaluate.model"] is not None or changed["evaluate.model"] is not None:
        raise UserError("try: evaluate.model is of a model from elsewhere, which is not trained")
    if baseline == changed:
        edited = "params.yaml" in _git("diff", "HEAD", "--name-only", "--", "params.yaml")
        back = "; params.yaml here may say so already: `git diff params.yaml`" if edited else ""
        raise UserError(f"try: {', '.join(settings)} changes nothing that a loss could show{back}")
    for key in (SEED, "tokenize.validation_fraction", *SAME):
        if baseline[key] != changed[key]:
            raise UserError(f"try: {key} has to be the same in both: change something else")


def _check_read(
    settings: list[str], keys: list[str], before: dict[str, str], after: dict[str, str]
) -> None:
    """Raise UserError where nothing reads what is changed, neither before nor after."""
    if all(key in before and key in after for key in keys):
        why = "; ".join(f"{key} is without effect, since {after[key]}" for key in keys)
        raise UserError(f"try: {', '.join(settings)} changes nothing that a loss could show: {why}")


def _pair(ours: list[Run], theirs: list[Run], settings: list[str]) -> tuple[Run, Run]:
    """Two runs of one seed that were made in the same environment, as `dropgpt compare` pairs them.

    Raises UserError where there are none: the effect of another machine would count as that of the
    change.
    """
    for pair in product(ours, theirs):
        if pair[0].made_by["environment"] == pair[1].made_by["environment"]:
            return pair
    words = [f"{SEED}={theirs[0].made_by[SEED]}"]
    # By force, or DVC would take the same result from dvc.lock or from its run-cache.
    first, second = (
        " -S ".join(["dvc exp run --temp --force", *more, *words]) for more in ([], settings)
    )
    raise UserError(
        f"try: {theirs[0].name} was made by {theirs[0].made_by['environment']}, {ours[0].name} by "
        f"{ours[0].made_by['environment']}: no comparison; `{first}` makes the first again, here "
        f"and now, `{second}` the second"
    )


def _check_same_texts(pairs: list[tuple[Run, Run]], settings: list[str]) -> None:
    """Raise UserError where files have changed between two of the experiments."""
    alike = [[pair[side] for pair in pairs] for side in (0, 1)]  # those of the same `data`
    if not any(one.startswith("data.") for one in settings):
        alike = [[run for pair in pairs for run in pair]]
    for runs in alike:
        for other in runs[1:]:
            if other.texts != runs[0].texts:
                raise UserError(
                    f"try: {runs[0].name} and {other.name} were trained on other texts, with the "
                    "same data: files have changed between them; `dvc exp remove` the older one, "
                    "and the same command goes on"
                )


def _expected(params: Params) -> dict[str, Any]:
    """What a result says that was made with these parameters by the code that is here."""
    values = dotted(params.model_dump())
    code = {f"code.{stage}": provenance.code(stage)[:8] for stage in ("train", "evaluate")}
    return code | {
        key: value
        for key, value in values.items()
        if key.startswith(MADE_OF) and key not in WITHOUT_EFFECT
    }


def _params(settings: list[str]) -> Params:
    return with_settings(Path("params.yaml"), settings)


def _check_unedited(settings: list[str], began_with: dict[str, Any]) -> None:
    """Raise UserError where a run with `settings` would no longer be what it was at the start.

    The effect of an edit would count as that of the change.
    """
    now = _expected(_params(settings))
    edited = [key for key in began_with | now if began_with.get(key) != now.get(key)]
    if edited:
        told = "; ".join(f"{key} {began_with.get(key)} -> {now.get(key)}" for key in edited)
        raise UserError(
            f"try: params.yaml or the code was edited meanwhile: {told}: put it back, and the same "
            "command goes on, or else it begins anew"
        )


def _results(
    settings: list[str], made_by: dict[str, Any], seed: int, known: dict[str, Run]
) -> list[Run]:
    """The runs of this seed: those of experiments since HEAD, or else a new one.

    `made_by` is what was expected of `settings` at the start, `known` has the runs that were read
    before.
    """
    words = [*settings, f"{SEED}={seed}"]
    expected = made_by | {SEED: seed}
    if found := _among(expected, known):
        return found
    # In a copy of the project, so that what lies here, params.yaml above all, stays.
    command = ["exp", "run", "--temp", *(option for word in words for option in ("-S", word))]
    head = _git("rev-parse", "HEAD")
    _check_unedited(settings, made_by)
    failed = dvc.call(command, sys.stderr)
    _check_unedited(settings, made_by)
    if failed:
        raise (ChangeFailedError if settings else UserError)(
            f"try: `dvc {' '.join(command)}` has failed, as is told above; once that is mended, "
            "the same command goes on"
        )
    if found := _among(expected, known):
        return found
    if (now := _git("rev-parse", "HEAD")) != head:
        raise UserError(
            f"try: HEAD has moved from {head[:10]} to {now[:10]} while it ran, and experiments "
            "count from HEAD: go back to it, and the same command goes on, or else it begins anew"
        )
    raise UserError(
        f"try: `dvc {' '.join(command)}` has left no result of these parameters and this code: "
        "see `dvc exp show`"
    )


def _among(expected: dict[str, Any], known: dict[str, Run]) -> list[Run]:
    """The runs since HEAD that were made as expected, in whatever environment."""
    commits = since_head()
    runs, _ = experiments.read_all(pair for pair in commits.items() if pair[0] not in known)
    for run in runs:  # a result does not say where its texts came from, but its experiment does
        said = experiments.params(commits[run.name])
        texts = {key: value for key, value in said.items() if key.startswith("data.")}
        known[run.name] = replace(run, made_by=run.made_by | texts)
    return [
        run
        for run in known.values()
        if all(run.made_by.get(key, value) == value for key, value in expected.items())
        and SEED in run.made_by
        and not run.notes  # else it is of what the experiment began with
    ]


def _line(found: Difference) -> str:
    seeds = "seed 1" if found.seeds == 1 else f"seeds 1 to {found.seeds}"
    if found.seeds == 1:
        return f"{seeds}: {found.mean:+.4f} bits per byte: one seed tells nothing"
    half, sure = (found.high - found.low) / 2, f"{100 * found.confidence:.4g}% interval"
    return f"{seeds}: {found.mean:+.4f} ± {half:.4f} ({sure}) bits per byte: {found.verdict}"
