"""From the documents' losses to perplexity, bits per byte and an interval."""

import math

import numpy as np
import pandas as pd
import pytest

from dropgpt.errors import UserError
from dropgpt.perplexity import in_words, perplexity, summary

LENGTHS = np.array([1, 5, 32, 33, 100, 47])
NAMES = pd.Series(list("abcdef"))
DOCUMENTS = pd.DataFrame({"tokens": LENGTHS, "bytes": 4 * LENGTHS, "source": NAMES})


def test_summary() -> None:
    documents = DOCUMENTS.assign(
        nats=2.0 * LENGTHS,
        nats_of_text=1.9 * LENGTHS,
        nats_dropout_on=3.0 * LENGTHS,
        nats_monte_carlo=2.5 * LENGTHS,
    )
    found = summary(documents)
    assert found["loss"] == pytest.approx(2)
    assert found["perplexity"] == pytest.approx(math.exp(2))
    assert found["perplexity_95_low"] == pytest.approx(math.exp(2))
    assert found["bits_per_byte"] == pytest.approx(2 / math.log(2) / 4)
    assert found["bits_per_byte_of_text"] == pytest.approx(1.9 / math.log(2) / 4)
    assert found["loss_dropout_on"] == pytest.approx(3)
    assert found["monte_carlo"]["perplexity_95_high"] == pytest.approx(math.exp(2.5))
    assert found["tokens"] == LENGTHS.sum()
    one = summary(documents[:1])
    assert one["perplexity_95_low"] is None
    assert in_words(found) == ("7.4", "7.4")
    assert in_words(one) == ("7.4", "unknown, of one document")


def test_a_perplexity_beyond_floating_point_is_null_and_an_endless_loss_an_error() -> None:
    tokens = pd.Series([10, 10])
    found = perplexity(800.0 * tokens, tokens, NAMES[:2])
    assert found["loss"] == pytest.approx(800)
    assert found["perplexity"] is None
    assert found["perplexity_95_low"] is None
    assert in_words(found) == ("beyond floating point",) * 2
    high = perplexity(pd.Series([3940.0, 7200.0]), tokens, NAMES[:2])
    assert in_words(high) == ("8.0e+241", "1.0 to beyond floating point")
    with pytest.raises(UserError, match=r"the loss is inf: .* lower train\.learning_rate"):
        perplexity(tokens * math.inf, tokens, NAMES[:2])


def test_the_interval_is_over_articles_not_over_their_parts() -> None:
    """Parts of one article are alike, so that many of them tell little more than one."""
    tokens = pd.Series([100] * 12)
    nats = pd.Series(np.repeat([300.0, 500.0, 400.0], 4))
    whole = perplexity(nats.groupby(nats.index // 4).sum(), tokens[:3] * 4, NAMES[:3])
    assert perplexity(nats, tokens, pd.Series(np.repeat(NAMES[:3].to_numpy(), 4))) == whole
    apart = perplexity(nats, tokens, pd.Series(range(12)))
    assert apart["loss"] == whole["loss"]
    assert apart["perplexity_95_high"] < whole["perplexity_95_high"] / 2
    # Of one article only its parts can be told apart.
    assert perplexity(nats, tokens, pd.Series(["one"] * 12)) == apart


@pytest.mark.parametrize("documents", [1, 6])
@pytest.mark.parametrize("column", ["nats", "nats_of_text", "nats_dropout_on", "nats_monte_carlo"])
def test_a_loss_that_is_no_number_is_an_error(documents: int, column: str) -> None:
    """In one document of several as in one alone; a sum of pandas would leave it out."""
    kinds = ("nats", "nats_of_text", "nats_dropout_on", "nats_monte_carlo")
    table = DOCUMENTS.assign(**dict.fromkeys(kinds, 2.0 * LENGTHS))
    summary(table[:documents])
    table.loc[0, column] = math.nan
    with pytest.raises(UserError, match="the loss is nan: the model's weights or logits overflow"):
        summary(table[:documents])


@pytest.mark.parametrize("documents", [3, 60])
@pytest.mark.parametrize("spread", [0.0, 0.7])  # of the logarithms of their lengths
def test_the_interval_holds_the_mean_as_often_as_it_says(documents: int, spread: float) -> None:
    """A bootstrap would miss it in 12 to 20% where documents are few or of unequal length."""
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        tokens = pd.Series(np.ceil(100 * random.lognormal(0, spread, documents)).astype(int))
        found = perplexity(
            tokens * random.normal(3, 0.5, documents), tokens, tokens.index.to_series()
        )
        hits += found["perplexity_95_low"] <= math.exp(3) <= found["perplexity_95_high"]
    assert 370 <= hits <= 394  # 380 expected


def test_no_interval_goes_below_a_loss_of_0() -> None:
    found = perplexity(pd.Series([1.0, 9.0]), pd.Series([10, 10]), NAMES[:2])
    assert found["perplexity_95_low"] == 1
