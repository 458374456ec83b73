"""From the loss of each held-out document to perplexity and bits per byte.

Perplexity is exp of the mean loss in nats. Bits per byte divide the same loss by the bytes of
the text instead of its tokens, so that models with other tokenizers can be compared.
"""

import math
from typing import Any

import numpy as np
import pandas as pd

from dropgpt.comparison.interval import mean_difference
from dropgpt.errors import UserError
from dropgpt.tokens import articles


def summary(documents: pd.DataFrame) -> dict[str, Any]:
    """What `evaluation.document_losses` found, as numbers a byte and a token; losses in nats.

    bits_per_byte          of all tokens, the ends of documents too, over the bytes of their texts
    bits_per_byte_of_text  without those ends, as lm-eval has it

    Raises UserError where a loss is not finite.
    """
    nats, tokens, source = documents.nats, documents.tokens, documents.source
    bits = math.log(2) * documents.bytes.sum()
    return {
        "bits_per_byte": _loss(nats, bits),
        "bits_per_byte_of_text": _loss(documents.nats_of_text, bits),
        **perplexity(nats, tokens, source),
        "loss_dropout_on": _loss(documents.nats_dropout_on, tokens.sum()),
        "monte_carlo": perplexity(documents.nats_monte_carlo, tokens, source),
        "tokens": int(tokens.sum()),
        "documents": len(documents),
        "articles": int((articles.sums(tokens.to_numpy(), source) > 0).sum()),
    }


def perplexity(nats: pd.Series, tokens: pd.Series, source: pd.Series) -> dict[str, Any]:
    """Loss a token and perplexity of documents with `nats` in all and so many `tokens` each.

    The 95% interval is that of `interval`; null where there is none, and so is a perplexity beyond
    floating point. Raises UserError where the loss is not finite.
    """
    loss = _loss(nats, tokens.sum())
    low, high = interval(nats, tokens, source) or (None, None)
    return {
        "loss": loss,
        "perplexity": _exp(loss),
        "perplexity_95_low": _exp(low),
        "perplexity_95_high": _exp(high),
    }


def interval(nats: pd.Series, sizes: pd.Series, source: pd.Series) -> tuple[float, float] | None:
    """The 95% interval of the loss in nats a token or, if `sizes` are in bytes, a byte.

    It is over articles (`tokens.articles`), since the tokens of one are not independent: the
    jackknife's, with as many degrees of freedom as articles of one size would have that tell as
    much (`Chance`). None where there is one document only.
    """
    sums, lengths = (articles.sums(each.to_numpy(), source) for each in (nats, sizes))
    some = lengths > 0  # what has no tokens says nothing
    if some.sum() < 2:
        return None
    # Beside 0, the loss is a difference as between two models.
    found = mean_difference(sums[np.newaxis, some], lengths[some])
    return max(found.low, 0.0), found.high


def _loss(nats: pd.Series, size: float) -> float:
    """Of all documents, by their size in all. Raises UserError where it is not finite."""
    loss = float(nats.to_numpy().sum() / size)  # pandas' sum leaves out what is not a number
    if not math.isfinite(loss):
        raise UserError(
            f"evaluate: the loss is {loss}: the model's weights or logits overflow; one that was "
            "trained here has run away: lower train.learning_rate, or set train.max_gradient_norm"
        )
    return loss


def _exp(loss: float | None) -> float | None:
    """exp(loss); None where there is no loss, and beyond floating point, from 709 nats on."""
    try:
        return None if loss is None else math.exp(loss)
    except OverflowError:
        return None


def in_words(found: dict[str, Any]) -> tuple[str, str]:
    """The perplexity and the 95% interval that `perplexity` has found, for people."""
    low, high = found["perplexity_95_low"], found["perplexity_95_high"]
    if low is None and found["perplexity"] is not None:
        return number_in_words(found["perplexity"]), "unknown, of one document"
    ends = dict.fromkeys(map(number_in_words, (low, high)))
    return number_in_words(found["perplexity"]), " to ".join(ends)


def number_in_words(perplexity: float | None) -> str:
    """A perplexity to a whole number from 100 on; None is one beyond floating point."""
    if perplexity is None:
        return "beyond floating point"
    if perplexity >= 1e9:
        return f"{perplexity:.1e}"
    return f"{perplexity:,.0f}" if perplexity >= 100 else f"{perplexity:.1f}"
