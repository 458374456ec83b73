"""DVC follows neither imports nor reads of params.yaml: dvc.yaml must name both."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from laboratory import texts

ROOT = Path(__file__).parent.parent
LABORATORY: dict[str, dict[str, Any]] = YAML(typ="safe").load(ROOT / "laboratory/small/dvc.yaml")[
    "stages"
]
STAGES: dict[str, dict[str, Any]] = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_names_each_file_that_it_imports_or_its_room(stage: str) -> None:
    files = imported(ROOT / f"stages/{stage}.py")
    named = {d for d in STAGES[stage]["deps"] if d.startswith(("src/", "stages/"))}
    covering = {file: {d for d in named if Path(file).is_relative_to(d)} for file in files}
    assert {file for file, by in covering.items() if not by} == set()
    assert named == set().union(*covering.values())  # none for nothing


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_names_each_section_of_the_params_that_it_reads(stage: str) -> None:
    tree = ast.parse((ROOT / f"stages/{stage}.py").read_text())
    named = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "params"]
    read = [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.value in named
    ]
    assert len(read) == len(named)  # the whole is handed to nobody who might read more of it
    assert set(STAGES[stage]["params"]) == {*read} - {"runtime"}


# Whose code makes the runs is a dependency of `prepare`, which writes it down for them.
@pytest.mark.parametrize(("stage", "modules"), [("prepare", ["texts", "run"]), ("page", ["page"])])
def test_the_laboratorys_stages_name_each_file_that_they_import(
    stage: str, modules: list[str]
) -> None:
    deps = LABORATORY[stage]["deps"]
    files = set().union(*(imported(ROOT / f"laboratory/{module}.py") for module in modules))
    assert {file for file in files if not any(Path(file).is_relative_to(d) for d in deps)} == set()


def test_a_runs_setting_names_the_code_that_its_numbers_come_from() -> None:
    packages = {"stages/__init__.py", "laboratory/__init__.py", "src/dropgpt/__init__.py"}
    files = imported(ROOT / "laboratory/texts.py") | imported(ROOT / "laboratory/run.py")
    # The checksum of the tokens stands for the documents.
    files = {file for file in files if not file.startswith("src/dropgpt/corpus/")}
    assert files - packages <= {*texts.code()}


def test_every_stage_says_what_it_does() -> None:
    stages = [*STAGES.values(), *LABORATORY.values()]
    assert all(stage["desc"] for stage in stages)


def imported(path: Path) -> set[str]:
    """The project's files that `path` imports, directly or not, and itself."""
    found: set[Path] = set()
    todo = [path]
    while todo:
        file = todo.pop()
        if file not in found:
            found.add(file)
            todo += imports(ast.parse(file.read_text()))
    return {str(file.relative_to(ROOT)) for file in found}


def imports(tree: ast.AST) -> Iterator[Path]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            yield from imports(node)
            continue
        # A package is imported with what is in it.
        for name in {
            ".".join(n.split(".")[: i + 1]) for n in names for i in range(n.count(".") + 1)
        }:
            for base in (ROOT, ROOT / "src"):
                place = base / name.replace(".", "/")
                for file in (place.with_suffix(".py"), place / "__init__.py"):
                    if file.is_file():
                        yield file
