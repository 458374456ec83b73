import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import pytest

import stages
from conftest import params_with
from dropgpt.errors import UserError
from dropgpt.machine import interruption
from dropgpt.machine.interruption import SIGNALS, Interrupted, listen, listen_no_more, postponed
from dropgpt.params import Params
from stages import run

STAGE = """
import time
from dropgpt.machine.interruption import Interrupted, listen
try:
    listen()
    print('ready', flush=True)
    time.sleep(60)
except Interrupted as error:
    print(error)
"""


pytestmark = pytest.mark.usefixtures("handlers_put_back")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_raises(number: int) -> None:
    listen()
    with pytest.raises(Interrupted, match=signal.Signals(number).name):
        signal.raise_signal(number)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_postponed_signal_is_noted_and_a_second_ctrl_c_raises(number: int) -> None:
    listen()
    with pytest.raises(Interrupted, match="SIGINT"), postponed() as asked_to_leave:
        assert asked_to_leave() is None
        signal.raise_signal(number)
        signal.raise_signal(signal.SIGTERM)  # DVC is gone as well
        assert asked_to_leave() == signal.Signals(number).name
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second signal was lost")
    with pytest.raises(Interrupted):
        signal.raise_signal(number)


@pytest.mark.parametrize("number", SIGNALS)
def test_from_then_on_nothing_disturbs(number: int) -> None:
    """A second Ctrl-C neither: it would leave the last outputs away."""
    listen()
    listen_no_more()
    signal.raise_signal(number)


def test_what_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listen()
    with postponed() as asked_to_leave:
        signal.raise_signal(signal.SIGINT)
        assert asked_to_leave() is None
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("shell", [[], ["sh", "-c", "{}; true"]], ids=["directly", "in a shell"])
def test_the_end_of_dvc_counts_as_sigterm(shell: list[str]) -> None:
    command = [sys.executable, "-c", STAGE]
    if shell:
        words = " ".join(f'"{word}"' for word in command)
        command = [part.format(words) for part in shell]
    dvc = f"import subprocess; subprocess.run({command!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", dvc],
        env=os.environ | {"DVC_STAGE": "train"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.kill()
    assert process.stdout.read() == "SIGTERM\n"
    process.wait()


def test_where_other_users_processes_are_hidden_a_stage_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with /proc mounted with hidepid=1: of what root has started nothing may be known."""

    def parent(process: psutil.Process) -> psutil.Process:
        raise psutil.AccessDenied(1)

    monkeypatch.setenv("DVC_STAGE", "train")
    monkeypatch.setattr(psutil.Process, "parent", parent)
    monkeypatch.setattr(interruption, "_end_with", lambda process: None)
    listen()


def mistaken(params: Params) -> None:
    raise UserError("a mistake")


def test_a_signal_during_an_error_adds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = params_with()
    monkeypatch.chdir(tmp_path)  # the project's own two files take long to read
    Path("dvc.yaml").write_text("stages: {}")
    monkeypatch.setattr(stages, "load", lambda path: params)

    def end_at(line: int) -> str:
        """What `run` says where SIGTERM arrives at this line of it, counted from the error on."""
        lines: list[int] = []

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            if frame.f_code is mistaken.__code__ or lines:
                lines.append(frame.f_lineno)
            if len(lines) == line:
                signal.raise_signal(signal.SIGTERM)
            return trace

        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.settrace(trace)
        try:
            run(mistaken)  # type: ignore[arg-type]
        except SystemExit as end:
            return str(end.code)
        finally:
            sys.settrace(None)
            sys._getframe().f_trace = None
        return "nothing"

    said = {end_at(line) for line in range(1, 40)}
    assert said == {"error: mistaken: stopped by SIGTERM", "error: a mistake"}
