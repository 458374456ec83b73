"""The five stages of dvc.yaml; run each as a module: `python -m stages.train`."""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

from dropgpt.errors import UserError
from dropgpt.params import Params, load


def run(stage: Callable[[Params], None]) -> None:
    """Run a stage as a program: a user's mistake becomes one line and exit status 1."""
    try:
        stage(load(Path("params.yaml")))
        return
    except UserError as error:
        message = str(error)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        message = f"the disk is full ({error.filename or 'while writing an output'}); make room"
    _restore_outputs()
    sys.exit(f"error: {message}")


def _restore_outputs() -> None:
    """Bring back this stage's last outputs, which DVC clears away before it runs a stage."""
    if "DVC_STAGE" not in os.environ:
        return
    from dvc.repo import Repo

    with Repo(os.environ["DVC_ROOT"]) as repo:
        for output in repo.stage.load_one("dvc.yaml", name=os.environ["DVC_STAGE"]).outs:
            output.use_cache = True  # metrics are in the cache as well, for the run-cache
            if output.hash_info:
                output.checkout(force=True, allow_missing=True)
