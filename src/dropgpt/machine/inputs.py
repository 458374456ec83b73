"""Whether what a stage has read still stands there at its end.

DVC enters in dvc.lock what stands there when a stage has ended, and so takes its result for one of
parameters, code or files that were edited while it ran.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from dropgpt.errors import UserError
from dropgpt.machine.files import sha256
from dropgpt.machine.repository import ignored
from dropgpt.params import NOT_YAML

PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")


class Inputs:
    """What dvc.yaml says that a stage reads: parameters by value, code and files as they are."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        try:
            found = YAML(typ="safe").load(PIPELINE)["stages"].get(stage, {})
        except FileNotFoundError:
            raise UserError(f"{PIPELINE}: no such file; run from the project's root") from None
        self.sections: list[str] = found.get("params", [])
        self.deps = [Path(dep) for dep in found.get("deps", [])]
        self.before = self._now()

    def check(self) -> None:
        """Raise UserError where something is other than when this was made."""
        compare(self.stage, self.before, self._now(), f"dvc repro {self.stage}")

    def _now(self) -> dict[str, Any]:
        values: Any = None
        with suppress(OSError, *NOT_YAML):  # in the middle of an edit, say
            values = YAML(typ="safe").load(PARAMS)
        values = values if isinstance(values, dict) else {}
        found: dict[str, Any] = {}
        for section in self.sections:
            keys = values.get(section)
            for key, value in keys.items() if isinstance(keys, dict) else ():
                found[f"{PARAMS}: {section}.{key}"] = value
        for dep in self._read(found):
            for file in sorted([dep, *dep.rglob("*")]):
                with suppress(FileNotFoundError):
                    if file.is_file() and "__pycache__" not in file.parts:
                        found[str(file)] = _signature(file)
        return found

    def _read(self, params: dict[str, Any]) -> list[Path]:
        """All that DVC looks at, less the folders of which nothing is read with these parameters.

        What is put there meanwhile has no part in the result.
        """

        def of(key: str) -> Any:
            return params.get(f"{PARAMS}: {key}")

        files = of("data.source") == "files" and self.stage == "download_fineweb"
        reads = {
            Path("corpora"): files or of("evaluate.extra_corpora"),
            Path("pretrained"): of(f"{self.stage}.model"),
        }
        return [dep for dep in self.deps if reads.get(dep, True)]


def compare(stage: str, before: dict[str, Any], now: dict[str, Any], remedy: str) -> None:
    """Raise UserError where `now` something is other than `before`, by name.

    Files in which DVC sees no change are let be. `remedy` is the command that makes the result
    of what stands there now.
    """
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    unseen = ignored(map(Path, names)) if names else set()
    differing = [name for name in names if Path(name) not in unseen]
    if differing:
        others = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
        raise UserError(
            f"{stage}: {differing[0]}{others} changed while it ran, so what it made is not of what "
            f"stands there now: `{remedy}` makes that"
        )


def _signature(file: Path) -> Any:
    """Code by its content, which editors and git may write again; what may be large by its date."""
    if file.suffix == ".py":
        return sha256(file)
    status = file.stat()
    return status.st_size, status.st_mtime_ns
