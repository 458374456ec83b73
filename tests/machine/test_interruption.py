import os
import signal
import subprocess
import sys

import pytest

from dropgpt.machine.interruption import SIGNALS, Interrupted, listen, listen_no_more, postponed

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
    listen_no_more()
    signal.raise_signal(signal.SIGTERM)


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
