"""What counting alone reaches on the held-out tokens: the bar for a model."""

import math

import numpy as np
import numpy.typing as npt

from dropgpt.tokens.array import Tokens
from dropgpt.tokens.statistics import count_tokens

DISCOUNT = 0.8  # of each count; the usual one
MOST = 50_000_000  # tokens that the trigram reads, in 2.5 GB of memory
Keys = npt.NDArray[np.int64]


def unigram_loss(training: Tokens, held_out: Tokens, n_vocab: int) -> float:
    """Mean loss in nats of the model that knows only how often each token occurs in `training`.

    Each token of the vocabulary counts once more than it occurs (Laplace), so that none is
    impossible.
    """
    seen = count_tokens(training, n_vocab) + 1
    held = count_tokens(held_out, n_vocab)
    total = int(seen.sum())
    # fsum: a dot product adds up in an order that depends on the processor.
    return math.fsum(
        n * -math.log(times / total)
        for n, times in zip(held.tolist(), seen.tolist(), strict=True)
        if n
    ) / len(held_out)


def kneser_ney_loss(training: Tokens, held_out: Tokens, n_vocab: int, order: int = 3) -> float:
    """Mean loss in nats of counted grams of up to `order` tokens, 1 to 3, interpolated.

    Kneser-Ney with one discount (Chen and Goodman 1999). A token is predicted from the order - 1
    before it in the stream, with p(token | context) = (max(count - d, 0) + d * kinds * p(token |
    shorter context)) / total, where `kinds` is how many tokens follow the context, and below the
    highest order a gram counts once for each token that stands before it. Below the unigrams all
    tokens are as likely. Takes some 50 bytes of memory a token of `training`, of which it reads
    the first MOST at most.
    """
    training = training[:MOST]
    counted = [np.unique(_grams(training, order, n_vocab), return_counts=True)]
    for n in range(order - 1, 0, -1):
        counted.insert(0, np.unique(counted[0][0] % n_vocab**n, return_counts=True))
    probability = np.full(len(held_out), 1 / n_vocab)
    for n, (grams, counts) in enumerate(counted, 1):
        if not len(grams):  # `training` is shorter than `order`
            break
        contexts, first = np.unique(grams // n_vocab, return_index=True)
        totals = np.add.reduceat(counts, first)
        kinds = np.diff(first, append=len(grams))
        asked = _grams(held_out, n, n_vocab)
        seen, times = _find(grams, asked)
        known, place = _find(contexts, asked // n_vocab)
        discounted = np.maximum(np.where(seen, counts[times], 0) - DISCOUNT, 0)
        shorter = probability[n - 1 :]
        longer = (discounted + DISCOUNT * kinds[place] * shorter) / totals[place]
        probability[n - 1 :] = np.where(known, longer, shorter)
    return -math.fsum(map(math.log, probability.tolist())) / len(held_out)


def _grams(tokens: Tokens, n: int, n_vocab: int) -> Keys:
    """Each n tokens in a row as one number, the first token the most significant digit."""
    wide = np.asarray(tokens).astype(np.int64)
    keys = np.zeros(max(0, len(tokens) - n + 1), dtype=np.int64)
    for start in range(n):
        keys = keys * n_vocab + wide[start : start + len(keys)]
    return keys


def _find(ordered: Keys, asked: Keys) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp]]:
    """Whether each key is among the `ordered`, and where; anywhere if it is not."""
    place = np.minimum(np.searchsorted(ordered, asked), len(ordered) - 1)
    return ordered[place] == asked, place
