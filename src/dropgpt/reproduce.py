"""Make every output again and compare: `make reproduce`."""

import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from dropgpt import dvc
from dropgpt.machine import kept, provenance
from dropgpt.machine.interruption import Interrupted
from dropgpt.model import artifact
from dropgpt.training.checkpoint_files import remove_ended


def main() -> None:
    try:
        _reproduce()
    except Interrupted as asked:
        print(f"reproduce: stopped by {asked}", file=sys.stderr)
        sys.exit(dvc.status_of(asked))


def _reproduce() -> None:
    _dvc("repro")
    before = outputs(Path("dvc.lock").read_text())
    # Or the training would go on from its own end, where evaluate had not to run, and a longer one
    # from that of a shorter one.
    kept.settle(provenance.read(artifact.TRAINED))
    remove_ended()
    _dvc("repro", "--force")
    after = outputs(Path("dvc.lock").read_text())
    different = [path for path in before if before[path] != after.get(path)]
    if different:
        sys.exit(f"error: not the same bytes as before: {', '.join(different)}")
    print(f"All {len(after)} outputs have the same bytes as before.")


def outputs(lock: str) -> dict[str, str]:
    """Each output that `lock`, the text of a dvc.lock, lists, and its md5."""
    stages = YAML(typ="safe").load(lock)["stages"].values()
    return {out["path"]: _md5(out) for stage in stages for out in stage["outs"]}


def _md5(out: dict[str, Any]) -> str:
    """Of a folder in a remote with versions of its own, those of its files."""
    if "files" not in out:
        return str(out["md5"])
    return ", ".join(sorted(f"{one['relpath']} {one['md5']}" for one in out["files"]))


def _dvc(*arguments: str) -> None:
    if status := dvc.call([*arguments]):
        sys.exit(status)


if __name__ == "__main__":
    main()
