"""What counting reaches, worked by hand."""

import math

import numpy as np
import pytest

from dropgpt.tokens.vocabulary import N_VOCAB
from dropgpt.yardsticks import kneser_ney_loss, unigram_loss


def test_the_unigram_loss_is_the_exact_sum() -> None:
    """So that its last digit is the same on every processor."""
    random = np.random.default_rng(1)
    training, held_out = (random.integers(0, N_VOCAB, n).astype(np.uint16) for n in (9999, 999))
    seen = [int(n) + 1 for n in np.bincount(training, minlength=N_VOCAB)]
    terms = [-math.log(seen[token] / sum(seen)) for token in held_out.tolist()]
    assert unigram_loss(training, held_out, N_VOCAB) == pytest.approx(
        math.fsum(terms) / 999, rel=1e-15
    )


def test_unigram_loss_is_laplace_smoothed() -> None:
    training = np.array([1, 1, 1, 2], dtype=np.uint16)
    expected = -(math.log(4 / (4 + N_VOCAB)) + math.log(1 / (4 + N_VOCAB))) / 2
    assert unigram_loss(training, np.array([1, 9], dtype=np.uint16), N_VOCAB) == pytest.approx(
        expected
    )


def ids(*tokens: int) -> np.ndarray:
    return np.array(tokens, dtype=np.uint16)


def test_kneser_ney_by_hand() -> None:
    """Of 1 2 1 3, three tokens have one kind of token before them; after 1 come two, once each."""
    one = (1 - 0.8) / 3 + 0.8 * 3 / 3 / N_VOCAB
    two_after_one = (1 - 0.8) / 2 + 0.8 * 2 / 2 * one
    expected = -(math.log(one) + math.log(two_after_one)) / 2
    assert kneser_ney_loss(ids(1, 2, 1, 3), ids(1, 2), N_VOCAB, order=2) == pytest.approx(expected)


def test_kneser_ney_of_three_by_hand() -> None:
    """Of 1 2 3 1 2 4, the bigram 2 3 counts once; 1 2 is followed by 3 and by 4, once each."""
    # Before 3 stands one kind of token, as before each of the four that have any: 1 2 3 1, 2 4.
    unigram = (1 - 0.8) / 4 + 0.8 * 4 / 4 / N_VOCAB
    bigram = (1 - 0.8) / 2 + 0.8 * 2 / 2 * unigram
    trigram = (1 - 0.8) / 2 + 0.8 * 2 / 2 * bigram
    training = ids(1, 2, 3, 1, 2, 4)
    both = kneser_ney_loss(training, ids(1, 2), N_VOCAB, order=3) * 2
    assert kneser_ney_loss(training, ids(1, 2, 3), N_VOCAB, order=3) * 3 - both == pytest.approx(
        -math.log(trigram)
    )


def test_kneser_ney_is_a_distribution() -> None:
    """Over all that may follow, the probabilities add up to 1."""
    training = np.random.default_rng(0).integers(0, 6, 300).astype(np.uint16)
    total = 0.0
    before = kneser_ney_loss(training, ids(1, 2), N_VOCAB) * 2
    for token in range(6):
        total += math.exp(before - kneser_ney_loss(training, ids(1, 2, token), N_VOCAB) * 3)
    unseen = math.exp(before - kneser_ney_loss(training, ids(1, 2, 7), N_VOCAB) * 3)
    assert total + (N_VOCAB - 6) * unseen == pytest.approx(1)


@pytest.mark.parametrize("length", [1, 2])
def test_kneser_ney_of_hardly_anything(length: int) -> None:
    """There is nothing of three tokens to count, so that all are as likely."""
    assert kneser_ney_loss(ids(*[1] * length), ids(1), N_VOCAB) == pytest.approx(math.log(N_VOCAB))


def test_kneser_ney_reads_no_more_than_fits_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = kneser_ney_loss(ids(1, 2, 3, 1), ids(1, 2), N_VOCAB)
    monkeypatch.setattr("dropgpt.yardsticks.MOST", 4)
    assert kneser_ney_loss(ids(1, 2, 3, 1, 2, 2, 2), ids(1, 2), N_VOCAB) == expected
