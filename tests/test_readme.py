"""What the README tells of the parameters is what params.yaml says."""

import re
import shlex

from dvc.utils.flatten import flatten
from ruamel.yaml import YAML

from conftest import ROOT
from dropgpt.params import Params

README = (ROOT / "README.md").read_text()
VALUES = YAML(typ="safe").load(ROOT / "params.yaml")


def test_the_table_lists_every_parameter_with_its_default() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| `(.*?)` \|", README, re.MULTILINE)
    table = {key: YAML(typ="safe").load(default.replace("\\|", "|")) for key, default in rows}
    assert table == flatten(VALUES)


def test_every_command_sets_parameters_that_exist() -> None:
    commands = re.findall(r"^dvc exp run .*", README, re.MULTILINE)
    assert any("n_embd=768" in command for command in commands)
    for command in commands:
        values = YAML(typ="safe").load(ROOT / "params.yaml")
        words = shlex.split(command, comments=True)
        words = words[: words.index("&&")] if "&&" in words else words
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


def test_every_fault_in_the_table_has_its_test() -> None:
    named = re.findall(
        r"`((?:\w+/)?test_\w+\.py)(?:::(\w+))?`", (ROOT / "tests/README.md").read_text()
    )
    assert len(named) > 15
    for file, test in named:
        assert f"def {test}" in (ROOT / "tests" / file).read_text()
