"""A clone of the project in which the tests run the real DVC."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from pathlib import Path
from typing import Any

import psutil
from ruamel.yaml import YAML

from conftest import ROOT, TINY
from dropgpt.machine.repository import outputs

WORDS = ["the", "cat", "sat", "dog", "on", "under", "house", "tree", "and", "then", "it", "was"]
OUTPUTS = ["data/documents.parquet", "data/tokens", "data/evaluation", "models/gpt"]
OUTPUTS += ["data/statistics.json", "samples", "metrics"]
DROPGPT = str(Path(sys.executable).with_name("dropgpt"))  # the command that pip installs


class Clone:
    """A clone of the project with its own git history and DVC cache.

    Without the laboratory, since DVC looks at its many stages in each command.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        left_out = ("metrics/", "laboratory/", "dvc.lock")
        for name in project_files():
            if not name.startswith(left_out):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, folder / name)
        for number in range(3):
            lines = (" ".join(WORDS[(i * j + number) % 12] for j in range(60)) for i in range(9))
            (folder / f"corpora/{number}.txt").write_text("<|endoftext|>".join(lines))
        self.set(**TINY, data={"source": "files", "files": "corpora/*.txt"})
        self.git("init", "--quiet", "--initial-branch", "main")
        self.commit()

    @property
    def run_cache(self) -> Path:
        """By what came in, what each run of a stage has put out."""
        return self.folder / ".dvc/cache/runs"

    def set(self, **sections: dict[str, Any]) -> None:
        """Change params.yaml as a user with an editor would."""
        yaml = YAML()
        values = yaml.load(self.folder / "params.yaml")
        for section, changes in sections.items():
            values[section].update(changes)
        yaml.dump(values, self.folder / "params.yaml")

    def git(self, *arguments: str, at: Path | None = None) -> subprocess.CompletedProcess[str]:
        name = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        return self.run("git", *name, *arguments, at=at)

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "as it stands")

    def dvc(self, *arguments: str, ok: bool = True) -> str:
        """What `dvc …` prints, on both streams."""
        done = self.run(sys.executable, "-m", "dvc", *arguments, ok=ok)
        return done.stdout + done.stderr

    def dropgpt(self, *arguments: str, ok: bool = True) -> str:
        """What `dropgpt …` prints; an error is one line."""
        done = self.run(DROPGPT, *arguments, ok=ok)
        assert ok or done.stderr.count("\n") == 1, done.stderr
        return done.stdout + done.stderr

    def start_queue(self, *arguments: str) -> None:
        """`dvc queue start`, whose worker inherits the streams and would keep a pipe open."""
        command = [sys.executable, "-m", "dvc", "queue", "start", *arguments]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(command, cwd=self.folder, env=environment(), check=True, **quiet)

    def run(
        self, *command: str, ok: bool = True, at: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=at or self.folder, env=environment(), capture_output=True, text=True
        )
        assert (done.returncode == 0) == ok, done.stdout + done.stderr
        return done

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`dvc …` in the background, as the leader of a process group as in a terminal."""
        return subprocess.Popen(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=self.folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def copy(self, folder: Path) -> "Clone":
        """The same, cache and all, in another folder."""
        shutil.copytree(self.folder, folder)
        return self.at(folder)

    def cloned(self, folder: Path) -> "Clone":
        """A git clone of it in another folder, without what git does not know of."""
        self.git("clone", "--quiet", str(self.folder), str(folder))
        return self.at(folder)

    def at(self, folder: Path) -> "Clone":
        """To run commands in another folder."""
        other = copy(self)
        other.folder = folder
        return other

    def processes(self) -> list[psutil.Process]:
        """All that run a stage in this clone, or in a copy that DVC made of it."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                command = process.cmdline()[:3]
                a_stage = command[1:2] == ["-m"] and command[2].startswith("stages.")
                if a_stage and Path(process.cwd()).is_relative_to(self.folder):
                    found.append(process)
        return found

    def saves(self) -> frozenset[tuple[str, int]]:
        """The checkpoints that there are, and when they were saved."""
        found = {}
        for path in (self.folder / "checkpoints").glob("*.safetensors"):
            with suppress(FileNotFoundError):
                found[path.name] = path.stat().st_mtime_ns
        return frozenset(found.items())

    def outputs(self) -> dict[str, str]:
        """The outputs that dvc.lock lists, and their md5."""
        return outputs((self.folder / "dvc.lock").read_text())

    def metrics(self, name: str) -> Any:
        """What DVC's tables show of a stage."""
        return self.json(f"metrics/{name}.json")

    def summary(self) -> Any:
        """All that evaluate tells of the held-out part."""
        return self.json("data/evaluation/summary.json")

    def json(self, path: str) -> Any:
        return json.loads((self.folder / path).read_text())

    def bytes(self) -> dict[str, bytes]:
        """Every output file that there is and what it holds."""
        return {str(f.relative_to(self.folder)): f.read_bytes() for f in self.files()}

    def stamps(self) -> dict[str, tuple[int, int, int]]:
        """Every output file that there is, which it is, and when it was last written or linked."""
        found = {str(file): file.stat() for file in self.files()}
        return {name: (s.st_ino, s.st_size, s.st_ctime_ns) for name, s in found.items()}

    def keep(self) -> None:
        """Note what the outputs are, for `put_back`."""
        for file in self.files():
            kept = self._kept(file)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, kept)

    def put_back(self) -> None:
        """As `dvc checkout --force` would, in a hundredth of its time."""
        for output in OUTPUTS:
            path, kept = self.folder / output, self._kept(self.folder / output)
            if kept.is_dir():
                shutil.rmtree(path, ignore_errors=True)
                shutil.copytree(kept, path)
            else:
                path.unlink(missing_ok=True)
                shutil.copy2(kept, path)

    def _kept(self, path: Path) -> Path:
        return self.folder.with_name("kept") / path.relative_to(self.folder)

    def files(self) -> list[Path]:
        """Every output file that there is."""
        roots = [self.folder / output for output in OUTPUTS]
        return [f for root in roots for f in [root, *root.rglob("*")] if f.is_file()]


def project_files() -> list[str]:
    """What git knows of the project; in an unpacked sdist, what that has come with."""
    listed = ROOT / "src/dropgpt.egg-info/SOURCES.txt"
    if (ROOT / ".git").exists():
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        names = done.stdout
    else:
        names = listed.read_text()
    return [name for name in names.splitlines() if (ROOT / name).is_file()]


def environment() -> dict[str, str]:
    """Nothing but the tests' own interpreter first on the path: stages find the code themselves."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PATH": path}


def wait_for(condition: Callable[[], Any], seconds: float = 300) -> Any:
    """The first true value of `condition`."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.002)
    return value


STAGES = ("download_fineweb", "tokenize", "train", "evaluate", "sample")


def stages_run(output: str) -> list[str]:
    """Which stages DVC has run, in the order of dvc.yaml; of the last two it takes either first."""
    lines = output.splitlines()
    found = [line.split("'")[1] for line in lines if line.startswith("Running stage")]
    return sorted(found, key=STAGES.index)
