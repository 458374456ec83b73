"""Each stage runs where there is no DVC, and one module knows DVC's insides."""

import ast
import shutil
import sys

from clone import Clone
from conftest import ROOT
from test_docs import commands

# Python with a module in it that cannot be imported, as where it was never installed.
WITHOUT = (
    "import runpy, sys; sys.modules['dvc'] = None; runpy.run_module(sys.argv[1], {}, '__main__')"
)


def test_the_stages_make_the_same_bytes_without_dvc(clone: Clone) -> None:
    """By the commands of docs/recovery.md."""
    made = clone.bytes()
    for output in ("data", "models", "samples", "metrics", "dvc.lock"):
        path = clone.folder / output
        path.unlink() if path.is_file() else shutil.rmtree(path)
    page = commands(ROOT / "docs/recovery.md")
    stages = [words[2] for words in page if words[:2] == ["python", "-m"] and "stages." in words[2]]
    assert len(stages) == 5
    for stage in stages:
        clone.run(sys.executable, "-c", WITHOUT, stage)
    assert clone.bytes() == made


def test_the_insides_of_dvc_are_known_to_two_modules() -> None:
    """`dvc.api` is public, and anybody's."""
    rooms = ("src", "stages", "laboratory", "benchmarks", "examples", "docs")
    files = [file for room in rooms for file in (ROOT / room).rglob("*.py")]
    knowing = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] in ("dvc", "dvc_data") for name in {*names} - {"dvc.api"}):
                knowing.add(file.relative_to(ROOT).as_posix())
    assert knowing == {f"src/dropgpt/machine/{name}.py" for name in ("repository", "last_outputs")}
