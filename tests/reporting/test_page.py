"""What the page says in words and rounded numbers."""

import re
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from dropgpt.params import DropoutSites
from dropgpt.reporting.dropout import in_words
from dropgpt.reporting.page import page
from dropgpt.reporting.results import Result
from reporting.test_comparison import a_run

STEPS = pd.DataFrame({"step": [0, 1], "loss": [3.0, 2.0], "learning_rate": 0.1, "gradient_norm": 1})
SAME, EACH = "On the same held-out tokens", "Each on its own held-out tokens"


def result(name: str, text: str = "same", **summary: Any) -> Result:
    run = a_run(2.0, 0.1, 1)
    documents = run.documents.assign(sha256=text)
    run = replace(run, name=name, documents=documents, summary=run.summary | summary)
    return Result(run, STEPS, *[None] * 5, {}, [])  # type: ignore[arg-type]


def rows(html: str) -> dict[str, list[str]]:
    """The table of the result: its heads, each with its cells."""
    table = html.partition('<h2 id="result">')[2].partition("</table>")[0]
    found = re.findall('<th scope="row">(.*?)</th>(.*)</tr>', table)
    return {name: re.findall("<td[^>]*>(.*?)</td>", cells) for name, cells in found}


def drawn(html: str) -> int:
    """How many yardsticks stand in the picture of the loss by step."""
    return len(re.findall(">(trigram|unigram)</text>", html.partition("Learning rate")[0]))


def test_what_counting_reaches_stands_there_once_where_it_is_the_same() -> None:
    html = page([result("a"), result("b")], {})
    assert list(rows(html)) == ["a", "b", "trigram", "unigram"]
    assert SAME in html
    assert drawn(html) == 2


def test_what_counting_reaches_on_another_text_stands_by_its_run() -> None:
    html = page([result("a"), result("b", "other", trigram_loss=7.5)], {})
    assert list(rows(html)) == ["a", "b", "trigram (a)", "trigram (b)", "unigram"]
    assert rows(html)["trigram (b)"][-2] == "7.500"
    assert EACH in html
    assert SAME not in html
    assert drawn(html) == 1


def test_what_nobody_has_counted_in_the_vocabulary_of_a_model_is_left_out() -> None:
    nothing = {
        f"{name}_{of}": None for name in ("trigram", "unigram") for of in ("loss", "perplexity")
    }
    html = page([result("a", **nothing)], {})
    assert rows(html)["trigram"] == ["1.000", "", "", "", ""]
    assert not drawn(html)


@pytest.mark.parametrize(
    ("model", "schedule", "words"),
    [
        ({}, "constant", "0.1"),
        ({"sites": 0.2}, "late", "0.2, by the schedule `late`"),
        ({"block_dropout": 0.3, "attention_dropout": "keys"}, "constant",
         "0.1, of keys in attention, 0.3 of whole blocks"),
        ({"mlp": 0.5}, "constant",
         "0.1 (embedding), 0.1 (attention), 0.1 (attention_output), 0.5 (mlp)"),
    ],
)  # fmt: skip
def test_dropout_is_told_by_what_was_dropped(
    model: dict[str, Any], schedule: str, words: str
) -> None:
    sites = dict.fromkeys(DropoutSites.model_fields, model.pop("sites", None))
    sites |= {"mlp": model.pop("mlp")} if "mlp" in model else {}
    said = in_words(
        {"dropout": 0.1, "dropout_sites": sites} | model, {"dropout_schedule": schedule}
    )
    assert said == words
