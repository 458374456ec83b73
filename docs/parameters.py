"""Write docs/parameters.md from params.yaml and its comments: `python docs/parameters.py`"""

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from dropgpt.comparison.tables import markdown
from dropgpt.params import Params

ROOT = Path(__file__).parent.parent
SCHEMA = Params.model_json_schema()

START = """# Parameters
Written by `python docs/parameters.py` from [params.yaml](../params.yaml) and its comments: edit
those.

Change a parameter in params.yaml, or for one experiment: `dvc exp run -S model.dropout=0.2`.
A list stands in brackets, also one of a single item: `-S 'sample.prompts=[Once upon a time]'`.
Where a value changes, the stages that read its section run again. Every stage first checks the
whole file: an unknown key, a missing one and a value that is not allowed are errors. A stage warns
of what is set and not read beside the other values, such as `train.dropout_switch_step` where the
schedule is constant. Lengths are in tokens unless they say otherwise.

**Two conventions of p.** Here, `model.dropout` is the probability of *dropping* an activation, as
in PyTorch; those that stay are scaled by 1/(1-p) in training. Srivastava et al. (2014) write p
for the probability of *keeping* one, and scale at test time.

**YAML 1.2.** ruamel.yaml reads params.yaml as YAML 1.2, as DVC does. PyYAML reads YAML 1.1: to
it, `3e-3` is a string and `no` is false. A program of yours that reads the file should use
ruamel.yaml, too.
"""

SECTIONS = {
    "data": "Where the documents come from; more on `files` and `hub` is in "
    "[your-texts.md](your-texts.md).",
    "tokenize": "How documents become tokens, and how many of them are held out.",
    "model": "The size of the GPT, where it drops, and how its weights begin. A site without a "
    "rate of its own has that of `model.dropout`. On a CPU a rate is rounded to a multiple of "
    "1/65,536, so that a mask costs 16 random bits an element. On a GPU in bfloat16 flash "
    "attention rounds that of the attention weights to a multiple of about 1/256: 0.1 drops 0.1016 "
    "of them, 0.01 drops 0.0117.",
    "train": "How the weights are learned. One seed says little: compare runs of several.",
    "evaluate": "How the held-out text is measured. What the numbers mean is in "
    "[measures.md](measures.md).",
    "sample": "What the model is asked to write.",
    "runtime": "How the stages compute, which is no part of a result. Of these, only the device, "
    "the number of threads and processes, and `shard_weights` change one: by rounding, and on a "
    "GPU by other dropout masks. More processes and machines are in [scale.md](scale.md).",
}


def page() -> str:
    """What docs/parameters.md is to hold."""
    values = YAML().load(ROOT / "params.yaml")
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    parts = [START]
    for section in values:
        readers = [f"`{name}`" for name, stage in stages.items() if section in stage["params"]]
        read = f"Read by {', '.join(readers)}. " if readers else "No stage runs again for it. "
        parts.append(f"## {section}\n{read}{SECTIONS[section]}\n")
        cells = rows(values[section], SCHEMA["properties"][section], f"{section}.")
        header = ["key", "default", "allowed", "meaning"]
        parts.append(markdown(pd.DataFrame(cells, columns=header)) + "\n")
    return "\n".join(parts)


def rows(values: CommentedMap, schema: dict[str, Any], prefix: str) -> Iterator[list[str]]:
    """Key, default, what is allowed, and the comment: of each key of `values` and below."""
    properties = SCHEMA["$defs"][schema["$ref"].split("/")[-1]]["properties"]
    above = ""  # the comment on a line of its own, which ruamel.yaml gives to the key before
    for key, value in values.items():
        comment = values.ca.items[key][2].value if key in values.ca.items else ""
        beside, _, below = comment.partition("\n")
        meaning = " ".join(f"{above} {beside}".replace("#", "").split())
        above = below
        name = f"`{prefix}{key}`"
        if isinstance(value, CommentedMap):
            yield [name, "", "", meaning]
            yield from rows(value, properties[key], f"{prefix}{key}.")
        else:
            yield [name, f"`{as_yaml(value)}`", allowed(properties[key]), meaning]


def allowed(schema: dict[str, Any]) -> str:
    """What a value may be, from the JSON schema that pydantic makes of its type."""
    if "anyOf" in schema:
        return " or ".join(map(allowed, schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"`{as_yaml(value)}`" for value in schema["enum"])
    if schema["type"] == "array":
        return f"list: {allowed(schema['items'])}"
    names = {"integer": "whole number", "string": "text", "boolean": "`true`, `false`"}
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = ", ".join(
        f"{sign} {limit:g}" if isinstance(limit := schema[key], float) else f"{sign} {limit}"
        for key, sign in signs.items()
        if key in schema
    )
    return names.get(schema["type"], schema["type"]) + (f" ({limits})" if limits else "")


def as_yaml(value: Any) -> str:
    """The value as it stands in params.yaml, on one line."""
    if isinstance(value, list):
        value = CommentedSeq(value)  # without its comments
        value.fa.set_flow_style()
    yaml, stream = YAML(), StringIO()
    yaml.width = 1000
    yaml.dump({"value": value}, stream)
    return stream.getvalue().removeprefix("value:").strip() or "null"


if __name__ == "__main__":
    (ROOT / "docs/parameters.md").write_text(page())
