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
    except Exception as error:
        _restore_outputs()
        if isinstance(error, UserError):
            sys.exit(f"error: {error}")
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            sys.exit(f"error: the disk is full: {error}; make room and run this again")
        raise


def _restore_outputs() -> None:
    """Bring back the stage's last outputs, which DVC clears away before it runs a stage."""
    if "DVC_STAGE" not in os.environ:
        return
    from dvc.repo import Repo

    with Repo() as repo:
        for output in repo.stage.load_one("dvc.yaml", name=os.environ["DVC_STAGE"]).outs:
            output.use_cache = True  # the run-cache keeps metrics and plots in the cache as well
            if output.hash_info:
                output.checkout(force=True, allow_missing=True)
