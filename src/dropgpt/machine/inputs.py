"""Whether what a stage has read still stands there at its end.

DVC enters in dvc.lock what stands there when a stage has ended, and so takes its result for one of
parameters, code or files that were edited while it ran.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from dropgpt.errors import UserError
from dropgpt.machine.files import sha256

PARAMS = Path("params.yaml")


class Inputs:
    """What dvc.yaml says that a stage reads: parameters by value, code and files as they are."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        found = YAML(typ="safe").load(Path("dvc.yaml"))["stages"].get(stage, {})
        self.sections: list[str] = found.get("params", [])
        self.deps = [Path(dep) for dep in found.get("deps", [])]
        self.before = self._now()

    def check(self) -> None:
        """Raise UserError where something is other than when this was made."""
        now = self._now()
        differing = [
            name for name in {**self.before, **now} if self.before.get(name) != now.get(name)
        ]
        if differing:
            others = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
            raise UserError(
                f"{self.stage}: {differing[0]}{others} changed while it ran, so what it made is "
                f"not of what stands there now: `dvc repro {self.stage}` makes that"
            )

    def _now(self) -> dict[str, Any]:
        values: Any = None
        with suppress(OSError, YAMLError, UnicodeDecodeError):  # in the middle of an edit, say
            values = YAML(typ="safe").load(PARAMS)
        values = values if isinstance(values, dict) else {}
        found: dict[str, Any] = {}
        for section in self.sections:
            keys = values.get(section)
            for key, value in keys.items() if isinstance(keys, dict) else ():
                found[f"{PARAMS}: {section}.{key}"] = value
        for dep in self.deps:
            for file in sorted([dep, *dep.rglob("*")]):
                with suppress(FileNotFoundError):
                    if file.is_file() and "__pycache__" not in file.parts:
                        found[str(file)] = _signature(file)
        return found


def _signature(file: Path) -> Any:
    """Code by its content, which editors and git may write again; what may be large by its date."""
    if file.suffix == ".py":
        return sha256(file)
    status = file.stat()
    return status.st_size, status.st_mtime_ns
