"""What README.md and docs/ tell is so: parameters, commands, links."""

import re
import runpy
import shlex
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import pdoc
import pytest
from dvc.cli.parser import get_main_parser
from dvc.utils.flatten import flatten
from ruamel.yaml import YAML

from conftest import ROOT
from dropgpt.arguments import parser
from dropgpt.params import Params

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def commands(page: Path) -> list[list[str]]:
    """The words of each command that stands in a block of the page, what follows && apart."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    text = "".join(block for language, block in blocks if not language)
    lines = text.replace("\\\n", "").splitlines()
    parts = [part for line in lines for part in re.split(r" && ", line)]
    return [words for part in parts if (words := shlex.split(part, comments=True))]


def test_the_readme_is_short() -> None:
    words = [word for word in PAGES[0].read_text().split() if word.strip("|-#`")]
    assert len(words) < 1200


def test_the_page_of_parameters_is_what_params_yaml_says() -> None:
    made = runpy.run_path(str(ROOT / "docs/parameters.py"))["page"]()
    assert (ROOT / "docs/parameters.md").read_text() == made, "run `python docs/parameters.py`"
    rows = re.findall(r"^\| `(.+?)` \| (?:`(.+?)`)? \| .* \| (.*) \|$", made, re.MULTILINE)
    table = {key: YAML(typ="safe").load(v.replace("\\|", "|")) for key, v, _ in rows if v}
    assert table == flatten(YAML(typ="safe").load(ROOT / "params.yaml"))
    assert all(meaning for _, _, meaning in rows)


@each_page
def test_every_experiment_sets_parameters_that_exist(page: Path) -> None:
    for words in commands(page):
        if words[:3] != ["dvc", "exp", "run"]:
            continue
        values = YAML(typ="safe").load(ROOT / "params.yaml")
        for setting in (words[i + 1] for i, word in enumerate(words) if word == "-S"):
            key, value = setting.split("=", 1)
            section, *names = key.split(".")
            place = values[section]
            for name in names[:-1]:
                place = place[name]
            assert names[-1] in place, key
            if "--queue" not in words:  # there, a list stands for one experiment each
                place[names[-1]] = YAML(typ="safe").load(value)
        Params.model_validate(values)


def test_the_reference_experiment_is_read_whole() -> None:
    both = commands(ROOT / "docs/reference.md")
    assert len(both) == 2  # as it is, and with a recipe that learns
    for words in both:
        assert "model.n_embd=768" in words
        assert "sample.tokens=100" in words


@each_page
def test_every_command_exists(page: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for program, *arguments in commands(page):
        match program:
            case "make":
                assert set(arguments) <= set(targets)
            case "dvc":
                parsed = get_main_parser().parse_args(arguments)
                assert parsed.cmd != "commit" or parsed.force  # else it asks, and fails in a script
            case "dropgpt":
                parser().parse_args(arguments)


def test_make_alone_lists_the_targets() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert re.findall(r"^make ([a-z-]+) +\w", listed, re.MULTILINE) == targets


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith("https:"):
            continue
        name, _, heading = link.partition("#")
        found = page.parent / name if name else page
        assert found.exists(), link
        assert not heading or heading in headings(found.read_text()), link


def test_the_pages_of_the_library_are_made_from_its_docstrings(tmp_path: Path) -> None:
    """All rooms, from the first page on; what pdoc would warn of is an error."""
    library = pdoc.doc.Module.from_name("dropgpt")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for module in modules(library):
            for member in module.flattened_own_members:
                if isinstance(member, pdoc.doc.Function):
                    _ = member.signature  # in which it evaluates the types
    rooms = [path for path in (ROOT / "src/dropgpt").iterdir() if not path.name.startswith("_")]
    names = {path.stem for path in rooms if path.is_dir() or path.suffix == ".py"}
    assert {module.name for module in library.submodules} == names
    assert {name for name in names if f"`dropgpt.{name}`" not in library.docstring} == {
        "plots_page",  # which `make` runs
        "reproduce",
        "dvc",  # and it, and `dropgpt try`
        "terminal",  # examples/
        "printable",  # of samples.md and `dropgpt report`
        "unread",  # of the stages and of `dropgpt try`
    }
    pdoc.pdoc("dropgpt.model.dropout", output_directory=tmp_path)
    page = (tmp_path / "dropgpt/model/dropout.html").read_text()
    assert "Zeroes elements with probability" in page


def modules(module: pdoc.doc.Module) -> Iterator[pdoc.doc.Module]:
    """It and all below it."""
    yield module
    for below in module.submodules:
        yield from modules(below)


def headings(text: str) -> list[str]:
    """As GitHub names them in links."""
    found = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in found]


def test_every_fault_in_the_table_has_its_test() -> None:
    named = re.findall(
        r"`((?:\w+/)?test_\w+\.py)(?:::(\w+))?`", (ROOT / "tests/README.md").read_text()
    )
    assert len(named) > 15
    for file, test in named:
        assert f"def {test}" in (ROOT / "tests" / file).read_text()


def test_the_rates_to_set_are_those_of_the_results() -> None:
    row = r"^\| (\d+) \| \*\*([\d.]+)\*\* \|.*$"
    results, readme = (
        re.finditer(row, (ROOT / page).read_text(), re.MULTILINE)
        for page in ("RESULTS.md", "README.md")
    )
    found = list(results)
    assert len(found) > 2
    assert [row[0] for row in readme] == [row[0] for row in found]
    both = [(ROOT / page).read_text() for page in ("RESULTS.md", "README.md")]
    assert len({"being made" in page for page in both}) == 1
    example = (ROOT / "examples/own_texts.py").read_text()
    best = re.findall(r"(\d+): ([\d.]+)", re.findall(r"^best = \{(.*)\}", example, re.MULTILINE)[0])
    assert [(int(n), float(p)) for n, p in best] == [(int(r[1]), float(r[2])) for r in found]


def test_what_the_readme_says_of_the_laboratory_stands_in_its_results() -> None:
    section = (ROOT / "README.md").read_text().partition("## What dropout does")[2]
    numbers = re.findall(r"\d\.\d{3}\b", section.partition("The default run")[0])
    assert len(numbers) > 20
    results = (ROOT / "RESULTS.md").read_text()
    assert [one for one in numbers if one not in results] == []
