"""Make every output again and compare: `make reproduce`."""

import sys
from pathlib import Path

from dropgpt import dvc
from dropgpt.machine import kept, provenance
from dropgpt.machine.interruption import Interrupted
from dropgpt.machine.repository import outputs
from dropgpt.model import artifact
from dropgpt.training.checkpoint_files import remove_ended

LOCK = Path("dvc.lock")


def main() -> None:
    try:
        _reproduce()
    except Interrupted as asked:
        print(f"reproduce: stopped by {asked}", file=sys.stderr)
        sys.exit(dvc.status_of(asked))


def _reproduce() -> None:
    committed = outputs(LOCK.read_text()) if LOCK.exists() else {}
    _dvc("repro")
    before = outputs(LOCK.read_text())
    other = [path for path in committed if committed[path] != before.get(path)]
    # Or the training would go on from its own end, where evaluate had not to run, and a longer one
    # from that of a shorter one.
    kept.settle(provenance.read(artifact.TRAINED))
    remove_ended()
    _dvc("repro", "--force")
    after = outputs(LOCK.read_text())
    different = [path for path in before if before[path] != after.get(path)]
    if different:
        sys.exit(f"error: not the same bytes as before: {', '.join(different)}")
    print(f"All {len(after)} outputs have the same bytes as before.")
    if other:
        print(
            f"They are not those that dvc.lock had: {', '.join(other)}. Another processor, other "
            "versions or an edit make others: docs/recovery.md."
        )


def _dvc(*arguments: str) -> None:
    if status := dvc.call([*arguments]):
        sys.exit(status)


if __name__ == "__main__":
    main()
