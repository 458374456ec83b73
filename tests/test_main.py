"""The command line as such: help, completion, exit statuses."""

import os
import resource
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from pkgutil import iter_modules
from unittest.mock import Mock

import pytest

from clone import DROPGPT
from conftest import ROOT
from dropgpt import commands
from dropgpt.__main__ import main
from dropgpt.arguments import parsed, parser
from dropgpt.errors import UserError


def dropgpt(
    *arguments: str, at: Path | None = None, columns: int = 80
) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"COLUMNS": str(columns)}
    return subprocess.run(
        [DROPGPT, *arguments], cwd=at, env=variables, capture_output=True, text=True
    )


def longest(text: str) -> int:
    return max(map(len, text.splitlines()))


NAMES = [command.name.rstrip("_") for command in iter_modules(commands.__path__)]


def test_the_help_names_each_command_and_has_an_example_of_it() -> None:
    done = dropgpt("--help")
    assert (done.returncode, done.stderr) == (0, "")
    listed, _, examples = done.stdout.partition("\nexamples:\n")
    assert {"compare", "write"} <= set(NAMES)
    for name in NAMES:
        assert f"\n    {name} " in listed
        assert f"  dropgpt {name} " in examples


def test_alone_it_prints_the_help() -> None:
    done = dropgpt()
    assert (done.returncode, done.stdout, done.stderr) == (0, dropgpt("--help").stdout, "")


@pytest.mark.parametrize("command", [[], *([name] for name in NAMES)], ids=str)
def test_the_help_fits_the_terminal(command: list[str]) -> None:
    assert longest(dropgpt(*command, "--help").stdout) <= 80


def test_the_help_uses_a_wide_terminal() -> None:
    assert 80 < longest(dropgpt("compare", "--help", columns=120).stdout) <= 120


def test_each_argument_has_its_help() -> None:
    (found,) = (a.choices for a in parser()._actions if a.dest == "command")
    for name, command in dict(found or {}).items():
        assert [action.dest for action in command._actions if not action.help] == [], name


def test_the_help_is_there_at_once() -> None:
    def seconds() -> float:  # of a processor, whatever else the machine does
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = seconds()
    dropgpt("--help")
    assert seconds() - before < 1
    code = "import sys, dropgpt.__main__ as m; m.parsed(['compare']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "pandas", "pydantic", "dvc"} & set(done.stdout.split())


def test_who_computes_nothing_with_torch_does_not_wait_for_it() -> None:
    names = ("compare", "report", "trace", "try_")
    modules = ", ".join(f"dropgpt.commands.{name}" for name in names)
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion(shell: str) -> None:
    done = dropgpt("--print-completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("compare", "write", "--temperature", "--by"):
        assert word.lstrip("-") in done.stdout


def test_bash_completes_a_command(tmp_path: Path) -> None:
    (tmp_path / "completion").write_text(dropgpt("--print-completion", "bash").stdout)
    line = (
        "source completion; COMP_WORDS=(dropgpt wr); COMP_CWORD=1; _shtab_dropgpt; echo $COMPREPLY"
    )
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "write", done.stderr


@pytest.mark.parametrize(
    ("command", "option", "status"),
    [
        ("report", "--output", 1),
        ("measure theirs", "--output", 1),
        ("compare", "--plot", 1),
        ("compare --require better", "--plot", 2),  # where 1 is a verdict
    ],
)
def test_what_is_no_file_is_not_replaced_by_one(
    command: str, option: str, status: int, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("pipe")
    for name, what in (("pipe", "device or a pipe"), ("link", "device or"), ("folder", "folder")):
        done = dropgpt(*command.split(), option, name, at=tmp_path)
        assert done.stderr.startswith(f"error: {option} {name} is a {what}")
        assert done.returncode == status
    assert (tmp_path / "pipe").is_fifo()
    with pytest.raises(UserError, match="/dev/null is a device"):  # which root could replace
        parsed([*command.split(), option, "/dev/null"])


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            Exception("/p/.git/: repository path '/p' is not owned by current user"),
            "error: /p/.git/: repository path '/p' is not owned by current user: `git config "
            '--global --add safe.directory "$PWD"` in the project\'s root allows it\n',
        ),
        (
            KeyError("getpwuid(): uid not found: 12345"),
            "error: DVC asks for this user's name and folder ('getpwuid(): uid not found: 12345'): "
            "`export LOGNAME=me HOME=/tmp`\n",
        ),
    ],
)
@pytest.mark.parametrize(("words", "status"), [(["--md"], 1), (["--require", "better"], 2)])
def test_a_user_that_git_and_dvc_do_not_take_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    line: str,
    words: list[str],
    status: int,
) -> None:
    monkeypatch.setattr("dropgpt.commands.compare.run", Mock(side_effect=error))
    monkeypatch.setattr(sys, "argv", ["dropgpt", "compare", *words])
    with pytest.raises(SystemExit) as left:
        main()
    assert (left.value.code, capsys.readouterr().err) == (status, line)


def test_an_option_is_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    """`--seed 7` would be `--seeds 7`, which is fourteen trainings."""
    with pytest.raises(SystemExit, match="2"):
        parsed(["try", "-S", "model.dropout=0.2", "--seed", "7"])
    assert "unrecognized arguments: --seed 7" in capsys.readouterr().err


def test_a_link_leads_to_the_file_that_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("link.html").symlink_to("page.html")
    for _ in range(2):
        assert parsed(["report", "--output", "link.html"])["output"] == tmp_path / "page.html"
        Path("page.html").touch()
    assert parsed(["report"])["output"] == Path("reports/index.html")


def test_a_prompt_without_quotation_marks_is_told_what_it_lacks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        parsed(["write", "Once", "upon", "a", "time"])
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "dropgpt: error: write: put a PROMPT of several words in quotation marks"


def test_what_is_not_of_standard_output_is_not_called_so(tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    command = f"ulimit -f 0; exec {shlex.quote(DROPGPT)} try -S model.dropout=0.2"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr.startswith("error: No usable temporary directory found in ")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--version"], 0, ""),
        (["write", "--model", "no-such"], 1, "error: no-such: no such folder; "),
        (["wirte"], 2, "usage: dropgpt "),
        (["write", "--tokens", "many"], 2, "usage: dropgpt write "),
    ],
)
def test_exit_statuses(arguments: list[str], status: int, said: str, tmp_path: Path) -> None:
    done = dropgpt(*arguments, at=tmp_path)
    assert done.returncode == status
    assert done.stderr.startswith(said)
    assert "Traceback" not in done.stderr
