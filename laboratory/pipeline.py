"""A laboratory's dvc.yaml, and what DVC says of it."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from dropgpt.errors import UserError
from dropgpt.machine.files import replacing
from dropgpt.machine.repository import read_lock, write_lock
from laboratory.plan import Group


class Pipeline:
    """That of a folder. A stage `prepare` comes before its runs, which `stage` names."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "dvc.yaml"
        self.lock = folder / "dvc.lock"
        # The copy of `lock`.
        self.kept = Path(".dvc/tmp") / f"{'-'.join(folder.parts)}.lock"

    def repro(self, name: str, *options: str) -> None:
        """Make a stage, with its output where the user sees it."""
        command = ["repro", *options, f"{self.file}:{name}"]
        if subprocess.run([sys.executable, "-m", "dvc", *command]).returncode:
            raise UserError(f"laboratory: `dvc {' '.join(command)}` failed, as it says above")

    def missing(self, groups: Mapping[str, Group]) -> list[str]:
        """The stages of the runs that DVC would make, in the order of the plan of these groups.

        Raises UserError where a group has no stage.
        """
        stages = YAML(typ="safe").load(self.file)["stages"]
        if lacking := next((name for name in groups if name not in stages), None):
            raise UserError(
                f"{self.file}: the plan's group {lacking} has no stage here: add one of its name, "
                "as map has it"
            )
        changed = self._changed()
        return [
            one
            for name, group in groups.items()
            for seed in group.seeds
            for variant in group.variants
            if (one := stage(name, variant, seed)) in changed
        ]

    def _changed(self) -> set[str]:
        """The stages that DVC would run."""
        status = json.loads(dvc("status", "--json", self.file.as_posix()))
        return {name.rpartition(":")[2] for name in status}

    def commit(self, names: list[str]) -> None:
        """Have DVC take what is there for what these stages make.

        Most differ in what `prepare` gives alone, which is put into the lock here, in all of them
        at once: `dvc commit` reads and writes the whole lock, for seconds, for each.
        """
        locked = read_lock(self.lock)
        given = {one["path"]: one for one in locked["prepare"]["outs"]}
        for name in names:
            for dependency in locked.get(name, {}).get("deps", ()):
                dependency.update(given.get(dependency["path"], {}))
        write(self.lock, locked)
        if left := sorted({*names} & self._changed()):
            dvc("commit", "--force", *(f"{self.file}:{name}" for name in left))

    def edited(self, names: list[str]) -> list[str]:
        """The outputs of these stages that are not as they were made, by the lock."""
        locked = read_lock(self.lock)
        made = [output for name in names if name in locked for output in locked[name]["outs"]]
        return [one["path"] for one in made if md5(one["path"]) != one["md5"]]

    @contextmanager
    def kept_lock(self) -> Iterator[Callable[[], None]]:
        """Give what keeps a copy of the lock, which DVC writes in place: a `kill -9` could lose it.

        The copy goes when the block ends well. Else it stays, and `mend_lock` puts back what the
        lock lost.
        """
        kept = self.mend_lock()
        write(self.kept, kept)

        def keep() -> None:
            nonlocal kept
            kept = joined(kept, read_lock(self.lock))
            write(self.kept, kept)

        yield keep
        self.kept.unlink(missing_ok=True)  # another laboratory may have ended

    def mend_lock(self) -> dict[str, Any]:
        """Put back into the lock what a kill tore off, as its copy has it; give all of it."""
        now = read_lock(self.lock)
        whole = joined(read_lock(self.kept), now)
        if self.lock.exists() and whole != now:
            print(f"{self.lock} is torn, as by a kill: what it had lost is back", file=sys.stderr)
            write(self.lock, whole)
        return whole


def md5(file: str) -> str:
    return hashlib.md5(Path(file).read_bytes(), usedforsecurity=False).hexdigest()


def stage(group: str, variant: str, seed: int) -> str:
    """The name of the stage that makes this run, as DVC makes it of a matrix."""
    return f"{group}@{variant}-{seed}"


def dvc(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"laboratory: `dvc {' '.join(arguments)}` failed: {reason(done.stderr)}")
    return done.stdout


def joined(kept: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The stages of a lock as it is `now`, and those that it has lost, as they were `kept`.

    DVC writes them in their order, so one that broke off has the first of them; any other is of
    another commit, say, and whole.
    """
    if len(now) >= len(kept) or [*now] != [*kept][: len(now)]:
        return now
    # It broke off in the last one; the rest may be whole YAML.
    return kept | dict(list(now.items())[:-1])


def write(lock: Path, found: dict[str, Any]) -> None:
    with replacing(lock) as partial:
        write_lock(partial, found)


def reason(said: str) -> str:
    """The line in which a program says why it failed, or its last one."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("error: ", "ERROR: "))]
    return (errors or lines or ["it said nothing"])[0 if errors else -1]
