"""The five stages of dvc.yaml; run each as a module: `python -m stages.train`.

An older Python must be able to read this file, too, to say that it is not the right one.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import NoReturn

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
    from dropgpt.machine import torchrun  # needs nothing that may be missing

    if "DVC_STAGE" not in os.environ or torchrun.started():
        return  # a process that torchrun has started may be started again
    try:
        from dropgpt.machine import last_outputs

        last_outputs.restore(os.environ["DVC_STAGE"])
    except Exception as error:  # why the stage itself has failed must be told all the same
        print(
            f"its last outputs are not all back: {error}; `dvc checkout` brings them, and "
            "`git checkout metrics` those in git",
            file=sys.stderr,
        )


for _needed in ("torch", "pydantic", "tiktoken", "datasets"):
    if find_spec(_needed) is None:
        _begin_again(_needed)

from dropgpt.machine import interruption, torchrun


def _end_before_it_began(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """A signal while a stage imports what it needs, or a mistake in its code."""
    interruption.listen_no_more()
    _restore_outputs()
    if isinstance(error, interruption.Interrupted):
        print(f"error: stopped by {error}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


if {"DVC_STAGE", "TORCHELASTIC_RUN_ID", "PET_NNODES"} & os.environ.keys():
    sys.excepthook = _end_before_it_began
    interruption.hear()

if "PET_NNODES" in os.environ and not torchrun.started():
    # What torchrun does not succeed in comes as an error, too, without pages of C++.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")

from dropgpt.errors import UserError
from dropgpt.machine.inputs import Inputs
from dropgpt.machine.memory import out_of_memory
from dropgpt.machine.streams import make_unbreakable
from dropgpt.params import Params, load

# As torchrun has it: whether this process is one of several, and whether it speaks for them.
OF_SEVERAL = torchrun.started()
FIRST = torchrun.first()

# What a write is refused by, and what to do.
REFUSED = {
    errno.ENOSPC: "the disk is full: {}; make room and run this again",
    errno.EDQUOT: "the disk is full: {}; make room and run this again",
    errno.EFBIG: "no file may be so large here: {}; raise `ulimit -f` and run this again",
    errno.EROFS: "nothing can be written here: {}; run this where it can",
    errno.EACCES: "it may not be read or written: {}; allow it and run this again",
    errno.EPERM: "it may not be read or written: {}; allow it and run this again",
    errno.EEXIST: "a file, or a link to nothing, stands where a folder is to be: {}; move it away",
    errno.ENOTDIR: "a file stands where a folder is to be: {}; move it away",
    errno.EMFILE: "too many files are open: {}; raise `ulimit -n` and run this again",
    errno.ESTALE: "another machine has replaced a file: {}; run this again",
    errno.ENOLCK: "this disk has no locks: {}; mount it with locks, or run this on another one",
    errno.EIO: "the disk fails: {}; run this again, on another disk if it fails again",
}
PASSING = {errno.ESTALE, errno.EIO}  # of these, what may go well when all begin again
# Of the stage that runs: as they are before its code is read, where DVC says which it is.
_address = os.environ.get("DVC_STAGE")
_inputs = [Inputs(_address.rpartition(":")[2])] if _address else []


def run(stage: Callable[[Params], list[str] | None], in_processes: bool = False) -> None:
    """Run a stage as a program: a user's mistake becomes one line and exit status 1.

    What the stage returns is told on standard error: what came out, in a line or two. With
    `in_processes` it may be run in several processes at once; see `machine.processes`.
    """
    sys.excepthook = sys.__excepthook__  # what ends it now is seen to here
    make_unbreakable()
    try:
        try:
            interruption.listen()
            _work(stage, in_processes)
        finally:
            interruption.listen_no_more()
    except BaseException as error:
        interruption.listen_no_more()  # again, where a signal came before it was done
        _restore_outputs()
        if isinstance(error, interruption.Interrupted):
            if not FIRST and not error.__cause__:
                sys.exit(1)  # all were asked to leave, and the first one says so
            _let_the_first_speak()
            sys.exit(f"error: {stage.__name__}: stopped by {error}")
        line = _in_a_line(stage.__name__, error)
        if line is None:
            raise
        if OF_SEVERAL and not (isinstance(error, OSError) and error.errno in PASSING):
            _end_all(line)
        sys.exit(f"error: {line}")


def _in_a_line(stage: str, error: BaseException) -> str | None:
    """What has ended a stage, for a user who can mend it; None of a mistake in the code."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno in REFUSED:
        return REFUSED[error.errno].format(error)
    if out_of_memory(error):
        return (
            f"{stage}: out of memory ({str(error) or 'no more is to be had'}); end what else runs, "
            "or take fewer or shorter documents, and run this again"
        )
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return (
            f"{stage}: no more threads may be started here: lower runtime.threads, or raise "
            "`ulimit -u`, and run this again"
        )
    return None


def check_inputs() -> None:
    """Raise UserError where what the running stage has read is no longer what stands there."""
    if FIRST:
        for inputs in _inputs:
            inputs.check()


def _work(stage: Callable[[Params], list[str] | None], in_processes: bool) -> None:
    if [one.stage for one in _inputs] != [stage.__name__]:
        _inputs[:] = [Inputs(stage.__name__)]
    params = load(Path("params.yaml"))
    several = params.runtime.processes > 1 or params.runtime.shard_weights
    if in_processes and not OF_SEVERAL and (several or "PET_NNODES" in os.environ):
        from dropgpt.machine.launch import launch  # slow to import

        launch(f"stages.{stage.__name__}", params.runtime)
        return
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0" and FIRST:
        print(f"{stage.__name__}: a process has failed, all begin again", file=sys.stderr)
    with _together() if OF_SEVERAL else nullcontext():
        lines = stage(params) or []
        check_inputs()
        for line in lines:
            print(f"{stage.__name__}: {line}", file=sys.stderr)


def _together() -> AbstractContextManager[None]:
    from dropgpt.machine.processes import together  # slow to import

    return together()


def _end_all(line: str) -> NoReturn:
    """Say what a user has to mend, and have torchrun end: to start again would change nothing."""
    _let_the_first_speak()
    print(f"error: {line}", file=sys.stderr, flush=True)
    os.kill(os.getppid(), signal.SIGTERM)
    sys.exit(1)


def _let_the_first_speak() -> None:
    """Each process may have found what ends it; torchrun ends this one when the first has told."""
    if not FIRST:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(3)
