"""The five stages of dvc.yaml; run each as a module: `python -m stages.train`.

An older Python must be able to read this file, too, to say that it is not the right one.
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path
from typing import NoReturn, cast

# The code beside this file, also in the copies of the project in which DVC runs experiments and
# which know nothing of an editable install.
sys.path.insert(0, str(Path(__file__).parent.parent / "src"))


def _begin_again(missing: str) -> NoReturn:
    """With the Python that runs `dvc`; where that is this one, say in a line what to do.

    `.venv/bin/dvc`, called by its path, has another `python3` first on the PATH.
    """
    python = _python_of_dvc()
    if python and python != sys.executable:
        os.execv(python, [python, *sys.orig_argv[1:]])
    _restore_outputs()
    sys.exit(
        f"error: {sys.executable} has no {missing}: `source .venv/bin/activate` first, or install "
        "the project in this environment, as README.md says"
    )


def _python_of_dvc() -> str | None:
    """The Python of the process that started us, through a shell or not."""
    process = os.getppid() if "DVC_STAGE" in os.environ else 0
    for _ in range(4):
        command = ["ps", "-o", "ppid=,args=", "-p", str(process)]
        with suppress(OSError):
            told = subprocess.run(command, capture_output=True, text=True).stdout
            found = re.match(r"\s*\d+ (.*?python[\d.]*) .*\bdvc\b", told)
            if found and Path(found[1]).is_file():
                return found[1]
            if parent := re.match(r"\s*(\d+)", told):
                process = int(parent[1])
    return None


def _restore_outputs() -> None:
    """Bring back the stage's last outputs, which DVC clears away before it runs a stage."""
    if "DVC_STAGE" not in os.environ:
        return
    try:
        from dvc.repo import Repo

        with Repo() as repo:
            pipeline, _, name = os.environ["DVC_STAGE"].rpartition(":")
            for output in repo.stage.load_one(pipeline or "dvc.yaml", name=name).outs:
                output.use_cache = True  # the run-cache keeps metrics and plots in the cache, too
                if output.hash_info:
                    output.checkout(force=True, allow_missing=True)
    except Exception as error:  # why the stage itself has failed must be told all the same
        print(f"its last outputs are not back: {error}; try `dvc checkout`", file=sys.stderr)


for _needed in ("torch", "pydantic", "tiktoken", "datasets"):
    if find_spec(_needed) is None:
        _begin_again(_needed)

from dropgpt.errors import UserError
from dropgpt.machine import interruption
from dropgpt.params import Params, load


def run(stage: Callable[[Params], list[str] | None]) -> None:
    """Run a stage as a program: a user's mistake becomes one line and exit status 1.

    What the stage returns is told on standard error: what came out, in a line or two.
    """
    for stream in (sys.stdout, sys.stderr):  # a terminal need not know every character
        cast(TextIOWrapper, stream).reconfigure(errors="backslashreplace")
    try:
        interruption.listen()
        for line in stage(load(Path("params.yaml"))) or []:
            print(f"{stage.__name__}: {line}", file=sys.stderr)
    except BaseException as error:
        interruption.listen_no_more()
        _restore_outputs()
        if isinstance(error, UserError):
            sys.exit(f"error: {error}")
        if isinstance(error, interruption.Interrupted):
            sys.exit(f"error: {stage.__name__}: stopped by {error}")
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            sys.exit(f"error: the disk is full: {error}; make room and run this again")
        raise
