import errno
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conftest import ROOT, killed_before, needs_fork
from dropgpt.machine.kept import ENDED, settle
from dropgpt.training import checkpoint, checkpoint_files
from dropgpt.training.checkpoint import ENDED_KEPT, Checkpoint, of_training
from dropgpt.training.checkpoint_files import stale

SCHEDULES = {"lr_schedule": "constant", "dropout_schedule": "constant"}
PARAMS = {"model": {"dropout": 0.1}, "train": {"steps": 9, "seed": 1} | SCHEDULES}
INPUTS = {
    "tokenize": {"params": {}},
    "train": {"params": PARAMS, "environment": {"threads": 1}, "code": "00"},
}
STATE = {
    "weight": torch.randn(3, 2, generator=torch.Generator().manual_seed(1)),
    "step": torch.tensor(4.0),
    "steps": torch.tensor([[1, 1 / 3]], dtype=torch.float64),
    "nothing": torch.zeros(0, dtype=torch.float64),
}


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    saved = Checkpoint(tmp_path / "state", 60, INPUTS)
    assert saved.load() is None
    saved.save(STATE | {"weight": torch.ones(5)}, 3)
    saved.save(STATE, 4)
    found = saved.load()
    assert found is not None
    assert found.keys() == STATE.keys()
    for name, tensor in STATE.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "state"
    Checkpoint(path, 60, INPUTS).save(STATE, 4)
    return path.read_bytes()


@given(data=st.data())
def test_a_damaged_state_is_not_used(
    whole: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(whole) - 1))
    damaged = data.draw(
        st.sampled_from(
            [
                whole[:place],
                whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :],
            ]
        )
    )
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(damaged)
    found = Checkpoint(path, 60, INPUTS).load()
    # A flipped byte of what only the list of checkpoints reads does no harm.
    assert found is None or all(torch.equal(found[name], STATE[name]) for name in STATE)


@needs_fork
@pytest.mark.parametrize("each", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_before_any_line_of_the_saving_leaves_the_old_state_or_the_new(
    tmp_path: Path, each: int
) -> None:
    """Before each line, or before each fifth."""
    old, new = (STATE | {"step": torch.tensor(step)} for step in (1.0, 2.0))
    saved = Checkpoint(tmp_path / "state", 60, INPUTS)
    found = []
    line = 0
    killed = True
    while killed:
        saved.save(old, 1)
        killed = killed_before(line, lambda: saved.save(new, 2))
        state = saved.load()
        assert state is not None
        assert all(torch.equal(state[name], STATE[name]) for name in STATE if name != "step")
        found.append(state["step"].item())
        line += each
    assert found == sorted(found)  # never the old one again once the new one is there
    assert found.count(1) > 20
    assert found.count(2) > (2 if each == 1 else 0)


def test_a_damaged_state_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = Checkpoint(tmp_path / "state", 60, INPUTS)
    saved.save(STATE, 4)
    content = bytearray((tmp_path / "state").read_bytes())
    content[-3] ^= 1
    (tmp_path / "state").write_bytes(content)
    assert saved.load() is None
    assert f"{tmp_path / 'state'} is damaged (its content is not what was saved)" in (
        capsys.readouterr().err
    )


def test_a_state_that_may_not_be_read_is_not_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    saved = Checkpoint(tmp_path / "state", 60, INPUTS)
    saved.save(STATE, 4)
    monkeypatch.setattr(Path, "read_bytes", failing)
    with pytest.raises(PermissionError):
        saved.load()


@pytest.mark.parametrize("changed", ["tokenize", "train"])
def test_another_training_never_sees_it(tmp_path: Path, changed: str) -> None:
    with pytest.raises(ZeroDivisionError), of_training(INPUTS, 60, tmp_path) as saved:
        saved.save(STATE, 4)
        raise ZeroDivisionError
    other = INPUTS | {changed: INPUTS[changed] | {"more": 0.2}}
    with of_training(other, 60, tmp_path) as saved:
        assert saved.load() is None
    with of_training(dict(reversed(INPUTS.items())), 60, tmp_path) as saved:
        assert saved.load() is not None


def test_success_removes_it(tmp_path: Path) -> None:
    with of_training(INPUTS, 60, tmp_path) as saved:
        saved.save(STATE, 4)
        assert saved.path.exists()
    assert list(tmp_path.iterdir()) == []


def test_one_training_at_a_time_has_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = []

    def second() -> None:
        with of_training(INPUTS, 60, tmp_path) as saved:
            found.append(saved.load())

    thread = threading.Thread(target=second)
    with pytest.raises(ZeroDivisionError), of_training(INPUTS, 60, tmp_path) as saved:
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
        saved.save(STATE, 4)
        raise ZeroDivisionError
    thread.join(10)
    assert len(found) == 1
    assert found[0] is not None
    assert "another process trains this very model" in capsys.readouterr().err
    with of_training(INPUTS, 60, tmp_path) as saved:  # where the first one succeeds
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
    thread.join(10)
    assert found[1:] == [None]


def of_seed(seed: int, steps: int = 9, lr_schedule: str = "constant") -> dict[str, Any]:
    train = {"steps": steps, "seed": seed} | SCHEDULES | {"lr_schedule": lr_schedule}
    params = {"model": {}, "train": train}
    return {"train": {"params": params, "environment": {"threads": 1}}}


def ended(folder: Path, inputs: dict[str, Any], safe: bool = True) -> None:
    with of_training(inputs, 60, folder) as saved:
        saved.save(STATE, inputs["train"]["params"]["train"]["steps"])
        saved.end()
    if safe:
        settle(inputs, folder)


def test_the_state_that_has_come_furthest_is_taken(tmp_path: Path) -> None:
    """Of two machines one is lost, and comes back."""

    def run(steps: int, **environment: int) -> float | None:
        """After how many steps it goes on; it saves after `steps`, and is stopped."""
        inputs = of_seed(1, 1000)
        inputs["train"]["environment"] |= environment
        with pytest.raises(ZeroDivisionError), of_training(inputs, 60, tmp_path) as saved:
            found = saved.load()
            saved.save(STATE | {"step": torch.tensor(float(steps))}, steps)
            raise ZeroDivisionError
        return found["step"].item() if found else None

    assert run(100, processes=2) is None
    assert run(700) == 100
    assert run(800, processes=2) == 700
    assert run(900, processes=2) == 800
    assert run(950, processes=3) == 900


def test_an_ended_shorter_training_goes_before_less_of_the_same(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), of_training(of_seed(1, 1000), 60, tmp_path) as saved:
        saved.save(STATE | {"step": torch.tensor(10.0)}, 10)
        raise ZeroDivisionError
    ended(tmp_path, of_seed(1, 500))
    with of_training(of_seed(1, 1000), 60, tmp_path) as saved:
        found = saved.load()
        assert found is not None
        assert found["step"] == STATE["step"]


@pytest.mark.parametrize("lr_schedule", ["constant", "linear"])
def test_what_only_serves_later_trainings_fails_none(tmp_path: Path, lr_schedule: str) -> None:
    (tmp_path / ENDED).touch()  # where its folder is to be
    ended(tmp_path, of_seed(1, lr_schedule=lr_schedule), safe=False)


def test_what_is_noted_at_the_end_is_of_what_the_training_began_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stage writes into its record in how many processes it was made."""
    inputs = of_seed(1, 9, "linear")
    with of_training(inputs, 60, tmp_path) as saved:
        saved.save(STATE, 9)
        inputs["train"]["environment"]["processes"] = [2, 1]
        saved.end()
    settle(inputs, tmp_path)
    with of_training(of_seed(1, 10, "linear"), 60, tmp_path) as saved:
        assert saved.load() is None
    assert "9 of the 10 steps have been made, but" in capsys.readouterr().err


@pytest.mark.parametrize("lr_schedule", ["constant", "linear"])
def test_an_ended_training_is_kept_until_its_result_is_safe(
    tmp_path: Path, lr_schedule: str
) -> None:
    inputs = of_seed(1, lr_schedule=lr_schedule)
    ended(tmp_path, inputs, safe=False)
    for _ in range(2):  # DVC may fail twice
        with pytest.raises(ZeroDivisionError), of_training(inputs, 60, tmp_path) as saved:
            assert saved.load() is not None
            raise ZeroDivisionError
    settle(inputs, tmp_path)
    assert stale(tmp_path) == []
    with of_training(inputs, 60, tmp_path) as saved:
        assert saved.load() is None
    settle(inputs, tmp_path)  # nothing is there


def test_a_training_that_was_begun_in_another_environment_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = of_seed(1)
    inputs["train"]["environment"] |= {"threads": 2, "packages": {"torch": "2"}}
    with pytest.raises(ZeroDivisionError), of_training(inputs, 60, tmp_path) as saved:
        saved.save(STATE, 4)
        raise ZeroDivisionError
    inputs["train"]["environment"] |= {"threads": 8}
    for seed in (2, 1):
        inputs["train"]["params"]["train"]["seed"] = seed
        assert not capsys.readouterr().err
        with of_training(inputs, 60, tmp_path) as saved:
            assert saved.load() is None
    told = capsys.readouterr().err
    assert "is of this training, after step 4, but with threads 2: where that is so" in told


@pytest.mark.parametrize(("schedule", "told"), [("constant", True), ("linear", False)])
def test_more_steps_elsewhere_begin_anew_and_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], schedule: str, told: bool
) -> None:
    """Where they would have gone on from the last state of a training that has ended."""
    inputs = of_seed(1)
    train = inputs["train"]["params"]["train"]
    train |= {"steps": 4, "lr_schedule": schedule, "dropout_schedule": "constant"}
    inputs["train"]["environment"] |= {"threads": 2}
    with of_training(inputs, 60, tmp_path) as saved:
        saved.save(STATE, 4)
        saved.end()
    settle(inputs, tmp_path)
    inputs["train"]["environment"] |= {"threads": 8}
    train |= {"steps": 6}
    with of_training(inputs, 60, tmp_path) as saved:
        assert saved.load() is None
    said = capsys.readouterr().err
    assert ("after step 4, but with threads 2: where that is so again" in said) == told


def test_what_went_on_in_other_processes_is_settled_as_what_they_saved(tmp_path: Path) -> None:
    for last in (1, 2):
        inputs = of_seed(1)
        inputs["train"]["environment"] |= {"processes": last} if last > 1 else {}
        with of_training(inputs, 60, tmp_path) as saved:
            saved.save(STATE, 9)
            saved.end()
        told = of_seed(1)
        told["train"]["environment"]["processes"] = [4, last]
        settle(told, tmp_path)
        assert stale(tmp_path) == []


@pytest.mark.parametrize("safe", [True, False])
def test_a_longer_training_goes_on_from_a_shorter_one(tmp_path: Path, safe: bool) -> None:
    ended(tmp_path, of_seed(1), safe)
    for seed, steps, goes_on in ((1, 10, True), (1, 9, not safe), (1, 8, False), (2, 10, False)):
        with of_training(of_seed(seed, steps), 60, tmp_path) as saved:
            assert (saved.load() is not None) == goes_on


@pytest.mark.parametrize("safe", [True, False])
def test_a_schedule_that_follows_the_steps_starts_over_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], safe: bool
) -> None:
    ended(tmp_path, of_seed(1, 9, "cosine"), safe)
    with of_training(of_seed(1, 10, "cosine"), 60, tmp_path) as saved:
        assert saved.load() is None
    assert "9 of the 10 steps have been made, but train.lr_schedule cosine follows" in (
        capsys.readouterr().err
    )


def test_it_starts_over_also_from_one_that_failed_after_its_last_step(tmp_path: Path) -> None:
    """As where params.yaml was edited meanwhile, to more steps."""
    with (
        pytest.raises(ZeroDivisionError),
        of_training(of_seed(1, 9, "linear"), 60, tmp_path) as saved,
    ):
        saved.save(STATE, 9)
        raise ZeroDivisionError
    with of_training(of_seed(1, 10, "linear"), 60, tmp_path) as saved:
        assert saved.load() is None


def test_it_starts_over_also_where_others_have_ended_since(tmp_path: Path) -> None:
    for seed in range(1 + ENDED_KEPT):
        ended(tmp_path, of_seed(seed, 9, "linear"), safe=False)
    with of_training(of_seed(0, 10, "linear"), 60, tmp_path) as saved:
        assert saved.load() is None


def test_few_ended_trainings_are_kept_and_none_in_the_place_of_an_interrupted_one(
    tmp_path: Path,
) -> None:
    with pytest.raises(ZeroDivisionError), of_training(of_seed(99), 60, tmp_path) as saved:
        saved.save(STATE, 4)
        raise ZeroDivisionError
    for seed in range(20):
        ended(tmp_path, of_seed(seed))
    assert len(list((tmp_path / ENDED).glob("*.safetensors"))) == ENDED_KEPT
    with of_training(of_seed(99), 60, tmp_path) as saved:
        assert saved.load() is not None


@pytest.mark.parametrize(
    ("room_for", "kept", "there"),
    [(9, 2, [0, 1, 2, 3]), (3, 2, [1, 2, 3]), (0, 2, [2, 3]), (0, 9, [0, 1, 2, 3])],
)
def test_the_oldest_make_room_where_there_is_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room_for: int, kept: int, there: list[int]
) -> None:
    for seed in range(4):
        with pytest.raises(ZeroDivisionError), of_training(of_seed(seed), 60, tmp_path) as saved:
            saved.save(STATE, 4)
            raise ZeroDivisionError
    usage = SimpleNamespace(free=room_for * saved.path.stat().st_size)
    monkeypatch.setattr(checkpoint, "KEPT", kept)
    monkeypatch.setattr(checkpoint_files, "disk_usage", lambda folder: usage)
    with of_training(of_seed(4), 60, tmp_path):  # which is in use, and not among them
        assert len(stale(tmp_path)) == len(there)
    for seed in range(4):
        with of_training(of_seed(seed), 60, tmp_path) as saved:
            assert saved.path.exists() == (seed in there)


def test_saving_takes_no_more_than_its_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = took = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)

    def slowly(*_: object) -> bytes:
        nonlocal now
        now += took
        return b""

    monkeypatch.setattr(checkpoint, "serialised", slowly)
    saved = Checkpoint(tmp_path / "state", 60, INPUTS)
    for took, pause in ((0.5, 60), (3, 150)):  # noqa: B007
        saved.save(STATE, 1)
        now += pause - 0.1
        assert not saved.due()
        now += 0.2
        assert saved.due()
    always = Checkpoint(tmp_path / "state", 0, INPUTS)
    always.save(STATE, 1)
    assert always.due()


def test_a_command_lists_and_removes_them(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    folder = tmp_path / "checkpoints"
    with pytest.raises(ZeroDivisionError), of_training(INPUTS, 60, folder) as saved:
        saved.save(STATE, 4)
        raise ZeroDivisionError
    half = "0123456789abcdef"
    (folder / f".{half}.safetensors.dropgpt-partial").write_bytes(b"half of one")
    mine = [folder / name for name in (".DS_Store", "notes.txt", f"{half}.safetensors.bak", "a.b")]
    for path in mine[:-1]:
        path.touch()
    mine[-1].mkdir()

    def command(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "dropgpt.training.checkpoint", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    first, second = command().splitlines()
    assert "step 4 of 9" in first
    assert "train.steps=9" in first  # where params.yaml says otherwise
    assert "train.seed" not in first
    assert half in second
    assert "nothing whole" in second
    assert command("--remove").count("removed") == 2
    assert command() == ""
    assert sorted(folder.iterdir()) == sorted(mine)


@pytest.fixture
def half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a kill has left of a checkpoint, in a project."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    Path("checkpoints").mkdir()
    left = Path("checkpoints/.0123456789abcdef.safetensors.dropgpt-partial")
    left.write_bytes(b"half of one")
    return left


def removed(**streams: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dropgpt.training.checkpoint", "--remove"]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, **streams)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
def test_they_are_removed_though_it_cannot_be_told(half: Path) -> None:
    """As into a file on a full disk: it is why they go."""
    with open("/dev/full", "w") as full:
        found = removed(stdout=full)
    assert (found.returncode, found.stderr) == (0, "")
    assert not half.exists()


def test_a_lock_that_cannot_be_taken_is_told_in_a_line(half: Path) -> None:
    """As in a folder that is not to be written to; it might be in use, and stays."""
    Path("checkpoints/0123456789abcdef.lock").mkdir()
    found = removed(stdout=subprocess.DEVNULL)
    assert found.returncode == 1
    assert "checkpoints/0123456789abcdef.lock: Is a directory; let this user" in found.stderr
    assert len(found.stderr.splitlines()) == 1
    assert half.exists()
