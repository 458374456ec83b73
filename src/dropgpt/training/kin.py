"""Checkpoints of nearly the same training: with fewer steps, or in another place.

Each is looked for by the place where a training's own would lie, and by all that it depends on.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from dropgpt.machine.kept import ENDED
from dropgpt.params import dotted
from dropgpt.training.checkpoint_files import read_metadata, stale
from dropgpt.training.schedules import bound_to_steps

Inputs = dict[str, Any]


def in_other_processes(path: Path, inputs: Inputs) -> Path | None:
    """What the same training has saved in another number of processes, after the most steps.

    They add up in another order, so the bits differ; the data and the batches are the same.
    """
    own_number, own = _without_processes(inputs)
    found = []
    for other, _, theirs in _newest_first(path.parent):
        number, rest = _without_processes(theirs)
        if number != own_number and rest == own:
            found.append(other)
    return max(found, key=steps_made, default=None)


def with_fewer_steps(path: Path, inputs: Inputs) -> Path | None:
    """The last state of a training that differs from this one in fewer steps only.

    None where there is none, or where its steps are not the first ones of a longer training,
    which is said.
    """
    steps, own = apart(inputs)
    found: list[tuple[int, Path]] = []
    for folder in (path.parent, path.parent / ENDED):  # in the first, if its result may not be safe
        for other, said, theirs in _newest_first(folder):
            made, rest = apart(theirs)
            if said["step"] == str(made) and made < steps and rest == own:
                found.append((made, other))
    if not found:
        return None
    made, other = max(found)
    if bound := follows_steps(inputs):
        print(
            f"train: {made} of the {steps} steps have been made, but {bound} follows "
            "train.steps: starting over; constant schedules would go on",
            file=sys.stderr,
        )
    return None if bound else other


def tell_of_other_environment(path: Path, inputs: Inputs) -> None:
    """Say where the same training, or its first steps, were made with other threads, packages and
    the like.

    From there on its bits would be others, so it begins anew.
    """
    steps, own = apart(inputs)
    here, own = _without_environment(own)
    folders = path.parent, path.parent / ENDED
    for other, said, theirs in chain.from_iterable(map(_newest_first, folders)):
        made, rest = apart(theirs)
        there, rest = _without_environment(rest)
        whole = said["step"] == str(made)  # what has more steps goes on from a whole one
        goes_on = whole and made < steps and not follows_steps(inputs)
        if rest == own and (goes_on or (made == steps and other.parent == path.parent)):
            keys = [key for key in {**here, **there} if here.get(key) != there.get(key)]
            was = ", ".join(f"{key} {there.get(key)}" for key in keys)
            print(
                f"train: starting over; {other} is of this training, after step {said['step']}, "
                f"but with {was}: where that is so again, it goes on from there",
                file=sys.stderr,
            )
            return


def steps_made(path: Path) -> int:
    """After how many steps a state was saved; -1 where it does not say so, being damaged."""
    with suppress(OSError, ValueError, KeyError, SafetensorError):
        return int(read_metadata(path)["step"])
    return -1


def follows_steps(inputs: Inputs) -> str | None:
    """What in a training's schedules follows the number of its steps, if anything does."""
    train = inputs["train"]["params"]["train"]
    return bound_to_steps(train["lr_schedule"], train["dropout_schedule"])


def apart(inputs: Inputs) -> tuple[int, Inputs]:
    """How many steps a training has, and all else that it depends on."""
    rest = json.loads(json.dumps(inputs))
    return rest["train"]["params"]["train"].pop("steps"), rest


def _without_processes(inputs: Inputs) -> tuple[int, Inputs]:
    """In how many processes a training is made, and all that it depends on in any number.

    Their threads go with them, since a machine's threads are shared out to its processes.
    """
    rest = json.loads(json.dumps(inputs))
    environment = rest["train"]["environment"]
    environment.pop("threads")
    return environment.pop("processes", 1), rest


def _without_environment(inputs: Inputs) -> tuple[Inputs, Inputs]:
    """Where a training is made, by dotted keys, and all else that it depends on."""
    rest = json.loads(json.dumps(inputs))
    return dotted(rest["train"].pop("environment")), rest


def _newest_first(folder: Path) -> Iterator[tuple[Path, dict[str, str], Inputs]]:
    """The checkpoints of trainings that do not run, what each says of itself, and its inputs."""
    for fingerprint in reversed(stale(folder)):
        path = folder / f"{fingerprint}.safetensors"
        with suppress(OSError, ValueError, KeyError, SafetensorError):
            said = read_metadata(path)
            inputs = json.loads(said["inputs"])
            if {"params", "environment"} <= inputs["train"].keys() and "step" in said:
                yield path, said, inputs
