"""The five stages of dvc.yaml; run each as a module: `python -m stages.train`."""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

# The code beside this file, also in the copies of the project in which DVC runs experiments and
# which know nothing of an editable install.
sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

from dropgpt.errors import UserError
from dropgpt.machine import interruption
from dropgpt.params import Params, load


def run(stage: Callable[[Params], None]) -> None:
    """Run a stage as a program: a user's mistake becomes one line and exit status 1."""
    try:
        interruption.listen()
        stage(load(Path("params.yaml")))
    except BaseException as error:
        interruption.listen_no_more()
        _restore_outputs()
        match error:
            case UserError():
                sys.exit(f"error: {error}")
            case interruption.Interrupted():
                sys.exit(f"error: {stage.__name__}: stopped by {error}")
            case OSError(errno=errno.ENOSPC | errno.EDQUOT):
                sys.exit(f"error: the disk is full: {error}; make room and run this again")
        raise


def _restore_outputs() -> None:
    """Bring back the stage's last outputs, which DVC clears away before it runs a stage."""
    if "DVC_STAGE" not in os.environ:
        return
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            for output in repo.stage.load_one("dvc.yaml", name=os.environ["DVC_STAGE"]).outs:
                output.use_cache = True  # the run-cache keeps metrics and plots in the cache, too
                if output.hash_info:
                    output.checkout(force=True, allow_missing=True)
    except Exception as error:  # why the stage itself has failed must be told all the same
        print(f"its last outputs are not back: {error}; try `dvc checkout`", file=sys.stderr)
