"""What is measured token by token is what the stage evaluate adds up."""

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import pytest

from conftest import params_with
from dropgpt import evaluation
from dropgpt.model.gpt import GPT
from dropgpt.reporting.each_token import each_token
from dropgpt.tokens.tensor import TokenTensor

LENGTHS = [40, 70, 5, 33, 90]


@pytest.fixture
def tokens() -> TokenTensor:
    ids = np.random.default_rng(1).integers(0, 300, 50 + sum(LENGTHS)).astype(np.uint16)
    held_out = [False] + [True] * len(LENGTHS)
    return TokenTensor(ids, pd.DataFrame({"tokens": [50, *LENGTHS], "held_out": held_out}), 301)


@pytest.mark.parametrize("across", [False, True])
def test_each_tokens_loss_is_that_of_the_evaluation(
    make_gpt: Callable[..., GPT], tokens: TokenTensor, across: bool
) -> None:
    model = make_gpt(n_vocab=301).eval()
    params = params_with(evaluate={"across_documents": across}).evaluate
    table = each_token(model, tokens, params)
    spans = np.array([sum(LENGTHS)] if across else LENGTHS)
    windows = evaluation.plan(spans, model.config.n_ctx, params.stride)
    expected = evaluation.losses(model, tokens.held_out, windows, 4)
    assert np.allclose(table.loss, expected, atol=1e-5)
    assert table.before.max() == model.config.n_ctx - 1
    assert (table.before == 0).sum() == len(spans)
    assert (table.seen == [(tokens.train == one).sum() for one in tokens.held_out]).all()
    some = each_token(model, tokens, params, 20)  # which it was trained on
    assert (some.seen == [(tokens.train[:20] == one).sum() for one in tokens.held_out]).all()
    assert (some.seen < table.seen).any()


def test_the_likeliest_token_is_the_greatest_of_the_softmax(
    make_gpt: Callable[..., GPT], tokens: TokenTensor
) -> None:
    table = each_token(make_gpt(n_vocab=301).eval(), tokens, params_with().evaluate)
    assert (table.likeliest <= 1).all()
    assert (table.likeliest >= 1 / 301).all()
    # Where the token that came was the likeliest, its loss says the same.
    assert (table.right == np.isclose(table.likeliest, np.exp(-table.loss), atol=1e-6)).all()


def test_some_tokens_are_some_of_the_same_windows(
    make_gpt: Callable[..., GPT], tokens: TokenTensor
) -> None:
    model = make_gpt(n_vocab=301).eval()
    whole = each_token(model, tokens, params_with().evaluate)
    part = each_token(model, tokens, params_with().evaluate, enough=100)
    assert 50 < len(part) < len(whole)
    assert set(part.loss.round(4)) <= set(whole.loss.round(4))


def test_each_window_is_shown_as_it_comes(
    make_gpt: Callable[..., GPT], tokens: TokenTensor
) -> None:
    numbers = []

    def shown(found: Iterable[pd.DataFrame], number: int) -> Iterable[pd.DataFrame]:
        for left, table in zip(range(number, 0, -1), found, strict=True):
            numbers.append(left)
            yield table

    each_token(make_gpt(n_vocab=301).eval(), tokens, params_with().evaluate, shown=shown)
    assert numbers == [*range(len(numbers), 0, -1)] != []
