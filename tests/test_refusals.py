"""Streams that go away and writes that are refused, wherever a stage is: no result is lost."""

import errno
import multiprocessing
import os
import re
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import stages
from clone import Clone
from conftest import ROOT, needs_fork
from dropgpt.errors import OF_DISK, UserError
from dropgpt.machine.files import SUMS, sha256
from dropgpt.machine.inputs import Inputs
from dropgpt.params import load
from dropgpt.tokens import tensor
from stages import REFUSED
from stages.train import train

pytestmark = needs_fork
ERRORS = [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO]
FOLDERS = {"tokenize": "data/tokens", "train": "models/gpt", "evaluate": "data/evaluation"}
FOLDERS |= {"sample": "samples"}


def opened(number: int) -> Any:
    """As Python has its streams when it begins."""
    try:
        os.fstat(number)
    except OSError:
        return None
    return os.fdopen(number, "w", buffering=1, closefd=False)


@pytest.mark.parametrize(
    ("error", "all_end"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (MemoryError(), True),
        (UserError("mend it"), True),
        (OSError(errno.ESTALE, "Stale file handle"), False),
        (OSError(errno.EIO, "Input/output error"), False),
    ],
)
def test_of_several_processes_all_end_where_to_begin_again_would_change_nothing(
    monkeypatch: pytest.MonkeyPatch, error: Exception, all_end: bool
) -> None:
    """torchrun takes the end of one for that of a machine, and starts all again."""

    def failing(*_: Any) -> None:
        raise error

    def end_all(line: str) -> NoReturn:
        raise SystemExit(f"all end: {line}")

    monkeypatch.setattr(stages, "OF_SEVERAL", True)
    monkeypatch.setattr(stages, "_work", failing)
    monkeypatch.setattr(stages, "_end_all", end_all)
    monkeypatch.setattr(stages, "make_unbreakable", lambda: None)
    for name in "listen", "listen_no_more":
        monkeypatch.setattr(stages.interruption, name, lambda: None)
    with pytest.raises(SystemExit) as left:
        stages.run(train)
    assert str(left.value).startswith("all end: " if all_end else "error: ")


# A fork of a process in which no test has worked yet. Torch's threads are not in a fork of this
# one, and it may crash when it looks for them.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload([f"stages.{stage}" for stage in FOLDERS])


def start_stage(
    stage: str, folder: Path, prepare: Callable[..., None], *arguments: Any
) -> BaseProcess:
    """In a process of its own, in which `prepare` is called first."""
    process = processes.Process(target=in_process, args=(stage, folder, prepare, *arguments))
    process.start()
    return process


def status(process: BaseProcess) -> int:
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def in_process(stage: str, folder: Path, prepare: Callable[..., None], *arguments: Any) -> None:
    ended = 70
    try:
        os.chdir(folder)
        prepare(*arguments)
        sys.stdout, sys.stderr = opened(1), opened(2)
        module = __import__(f"stages.{stage}", fromlist=[stage])
        module.run(getattr(module, stage))
        ended = 0
    except BaseException as left:
        with suppress(OSError):
            if isinstance(left, SystemExit):
                ended = 1
                print(left.code, file=sys.stderr, flush=True)
            else:
                traceback.print_exception(left)
    finally:
        os._exit(ended)


def nothing() -> None:
    pass


def write_into(writer: Connection) -> None:
    os.dup2(writer.fileno(), 1)
    os.dup2(writer.fileno(), 2)
    writer.close()


def close_streams() -> None:
    os.close(1)
    os.close(2)


def refuse_write(told: Path, number: int, error: int) -> None:
    left = number

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event not in ("open", "os.rename") or not isinstance(arguments[0], str | Path):
            return
        read = event == "open" and str(arguments[1])[:1] not in ("w", "x")
        if not read and Path(arguments[0]).absolute().is_relative_to(told.parent):
            left -= 1
            if left == -1:
                raise OSError(error, os.strerror(error), str(arguments[0]))

    output = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 2)
    sys.addaudithook(refuse)


@pytest.fixture
def copied(reproduced: Clone, tmp_path: Path) -> Clone:
    return reproduced.copy(tmp_path / "clone")


once = settings(
    max_examples=8,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@once
@given(stage=st.sampled_from([*FOLDERS]), read=st.integers(0, 400))
def test_a_reader_that_goes_away_costs_nothing(copied: Clone, stage: str, read: int) -> None:
    """Of what the stage tells, so many bytes are read, and then nobody is there any more."""
    before = copied.bytes()
    reader, writer = processes.Pipe(duplex=False)
    process = start_stage(stage, copied.folder, write_into, writer)
    writer.close()
    left = read
    while left and (found := os.read(reader.fileno(), left)):
        left -= len(found)
    reader.close()
    assert status(process) == 0
    assert copied.bytes() == before


def test_streams_that_were_closed_from_the_start_cost_nothing(copied: Clone) -> None:
    before = copied.bytes()
    assert status(start_stage("evaluate", copied.folder, close_streams)) == 0
    assert copied.bytes() == before


@once
@given(stage=st.sampled_from([*FOLDERS]), number=st.integers(0, 12), error=st.sampled_from(ERRORS))
def test_a_write_that_is_refused_is_told_in_a_line_and_leaves_all_whole(
    copied: Clone, stage: str, number: int, error: int
) -> None:
    """The write of this number: of a file that is opened for it, flushed, or put in its place."""
    before = copied.bytes()
    told = copied.folder / "told"
    found = status(start_stage(stage, copied.folder, refuse_write, told, number, error))
    lines = told.read_text()
    assert "Traceback" not in lines
    assert found in (0, 1)
    assert ("error: " in lines) == (found == 1)
    folder = copied.folder / FOLDERS[stage]
    if (folder / SUMS).exists():
        for line in (folder / SUMS).read_text().splitlines():
            assert sha256(folder / line[66:]) == line[:64]
    assert status(start_stage(stage, copied.folder, nothing)) == 0  # nothing stands in its way
    assert copied.bytes() == before


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "error: stopped by SIGTERM\n"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGINT)", "error: stopped by SIGINT\n"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGXCPU)", "error: stopped by SIGXCPU\n"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGUSR1)", "error: stopped by SIGUSR1\n"),
        ("1 +", "SyntaxError: invalid syntax"),
    ],
    ids=["SIGTERM", "SIGINT", "SIGXCPU", "SIGUSR1", "a mistake in its code"],
)
def test_what_ends_a_stage_before_it_began_leaves_its_last_outputs(
    copied: Clone, line: str, said: str
) -> None:
    """While it imports the library, at the end of a module."""
    if "SIGINT" in line and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        pytest.skip("these tests were started with nohup, and so is the stage")
    before = copied.bytes()
    with (copied.folder / "src/dropgpt/generation.py").open("a") as module:
        module.write(f"{line}\n")
    output = copied.dvc("repro", "--single-item", "sample", ok=False)
    assert said in output
    assert ("Traceback" in output) == said.startswith("Syntax")
    assert copied.bytes() == before


def test_what_neither_cache_nor_git_has_is_not_missed(copied: Clone) -> None:
    """The first mistake in a fresh clone is told alone: nothing had been there."""
    shutil.rmtree(copied.folder / ".dvc/cache")
    for output in ("data", "models"):
        shutil.rmtree(copied.folder / output)
    copied.set(data={"files": "corpora/nothing.txt"})
    told = copied.dvc("repro", "--single-item", "download_fineweb", ok=False)
    assert "which matches no file" in told
    assert "last outputs" not in told
    code = "from dropgpt.machine import last_outputs; last_outputs.restore('train')"
    done = copied.run(sys.executable, "-c", code)
    assert done.stdout + done.stderr == ""


def failing_write(told: Path, error: Exception) -> None:
    def write(*arguments: object) -> NoReturn:
        raise error

    os.dup2(os.open(told, os.O_WRONLY | os.O_CREAT), 2)
    tensor.write = write  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            MemoryError(),
            "out of memory (no more is to be had); end what else runs, or take fewer or shorter "
            "documents, and run this again",
        ),
        (
            RuntimeError("can't start new thread"),  # as Python has it under `ulimit -u`
            "no more threads may be started here: lower runtime.threads, or raise `ulimit -u`, and "
            "run this again",
        ),
    ],
    ids=["memory", "threads"],
)
def test_a_stage_without_memory_or_threads_says_so_in_a_line(
    copied: Clone, error: Exception, said: str
) -> None:
    before = copied.bytes()
    told = copied.folder / "told"
    assert status(start_stage("tokenize", copied.folder, failing_write, told, error)) == 1
    assert f"error: tokenize: {said}\n" in told.read_text()
    assert copied.bytes() == before


def refuse_read(told: Path) -> None:
    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and str(arguments[0]) == "params.yaml":
            raise PermissionError(errno.EACCES, "Permission denied", "params.yaml")

    os.dup2(os.open(told, os.O_WRONLY | os.O_CREAT), 2)
    sys.addaudithook(refuse)


def test_a_read_that_is_refused_is_not_told_as_a_write(tmp_path: Path) -> None:
    for name in "dvc.yaml", "params.yaml":
        shutil.copy(ROOT / name, tmp_path)
    told = tmp_path / "told"
    assert status(start_stage("sample", tmp_path, refuse_read, told)) == 1
    (line,) = told.read_text().splitlines()
    assert line.startswith("error: it may not be read or written: ")
    assert "'params.yaml'" in line


def test_what_is_told_as_the_machines_has_a_line_for_it() -> None:
    assert {*REFUSED} >= OF_DISK


def link_to_nothing(told: Path) -> None:
    os.dup2(os.open(told, os.O_WRONLY | os.O_CREAT), 2)
    shutil.rmtree("checkpoints")
    os.symlink("/no/such/disk", "checkpoints")


def test_a_link_to_a_disk_that_is_gone_is_told_in_a_line(copied: Clone) -> None:
    told = copied.folder / "told"
    assert status(start_stage("train", copied.folder, link_to_nothing, told)) == 1
    (line,) = told.read_text().splitlines()
    assert line.startswith("error: a file, or a link to nothing, stands where a folder is to be: ")
    assert "'checkpoints'" in line


def refuse_parameters(told: Path, error: int) -> None:
    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and str(arguments[0]) == "params.yaml":
            raise OSError(error, os.strerror(error), "params.yaml")

    os.dup2(os.open(told, os.O_WRONLY | os.O_CREAT), 2)
    sys.addaudithook(refuse)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errno.EMFILE, "error: too many files are open: .*params.yaml.*; raise `ulimit -n` and"),
        (errno.ENOTDIR, "error: a file stands where a folder is to be: .*params.yaml.*; move it"),
        (errno.ESTALE, "error: another machine has replaced a file: .*params.yaml.*; run this"),
    ],
)
def test_what_else_the_system_refuses_is_told_in_a_line(
    tmp_path: Path, error: int, said: str
) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    told = tmp_path / "told"
    assert status(start_stage("sample", tmp_path, refuse_parameters, told, error)) == 1
    (line,) = told.read_text().splitlines()
    assert re.match(said, line)


@pytest.mark.parametrize(
    ("stage", "name", "told", "reads"),
    [
        ("train", "params.yaml", "params.yaml: train.steps", {}),
        ("train", "src/dropgpt/model/gpt.py", "src/dropgpt/model/gpt.py", {}),
        ("tokenize", "data/documents.parquet", "data/documents.parquet", {}),
        ("download_fineweb", "corpora/0.txt", "corpora/0.txt", {}),
        ("evaluate", "corpora/new.txt", "corpora/new.txt", {"extra_corpora": ["corpora/*.txt"]}),
        ("evaluate", "pretrained/a/b", "pretrained/a/b", {"model": "pretrained/a"}),
        ("sample", "pretrained/a/b", "pretrained/a/b", {"model": "pretrained/a"}),
    ],
)
def test_what_a_stage_read_must_stand_there_at_its_end(
    copied: Clone,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    name: str,
    told: str,
    reads: dict[str, Any],
) -> None:
    monkeypatch.chdir(copied.folder)
    copied.set(**{stage: reads} if reads else {})
    inputs = Inputs(stage)
    inputs.check()
    for other in {"evaluate", "sample"} - {stage}:
        copied.set(**{other: {"seed": 5}})
    inputs.check()  # what another stage reads
    if name == "params.yaml":
        copied.set(train={"steps": load(Path(name)).train.steps + 1})
    else:
        append(copied.folder / name)
    with pytest.raises(UserError, match=f"{stage}: {told} changed while it ran.*dvc repro {stage}"):
        inputs.check()


@pytest.mark.parametrize(
    ("stage", "name", "reads"),
    [
        ("download_fineweb", "corpora/new.txt", {"data": {"source": "wikipedia"}}),
        ("evaluate", "corpora/new.txt", {"data": {"source": "files"}}),
        ("evaluate", "pretrained/next/config.json", {}),
        ("sample", "pretrained/next/config.json", {}),
        ("train", "data/tokens/.DS_Store", {}),
        ("train", "src/dropgpt/model/.DS_Store", {}),
    ],
)
def test_what_a_stage_does_not_read_may_come_meanwhile(
    copied: Clone,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    name: str,
    reads: dict[str, dict[str, Any]],
) -> None:
    """A folder of which it reads nothing, and what DVC ignores."""
    monkeypatch.chdir(copied.folder)
    copied.set(**reads)
    inputs = Inputs(stage)
    append(copied.folder / name)
    inputs.check()


@pytest.mark.parametrize("line", ["a: 2024-13-45", f"a: {'1' * 5000}", f"a: {'[' * 500}", "a: ["])
def test_parameters_that_cannot_be_read_are_left_to_what_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    Path("params.yaml").write_text(line)
    Inputs("sample")
    with pytest.raises(UserError, match=r"params\.yaml: not YAML: "):
        load(Path("params.yaml"))


def test_elsewhere_than_at_the_root_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^dvc.yaml: no such file; run from the project's root$"):
        Inputs("train")


def append(file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    with file.open("a") as opened:
        opened.write("\n")
