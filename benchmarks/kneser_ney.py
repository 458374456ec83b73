"""What counting alone reaches on the held-out tokens: `python -m benchmarks.kneser_ney`

Interpolated Kneser-Ney (Chen and Goodman 1999) with one discount, of the training part.
"""

import math
from collections import Counter
from pathlib import Path

from dropgpt.tokens import tensor
from dropgpt.tokens.vocabulary import N_VOCAB

DISCOUNT = 0.8
Gram = tuple[int, ...]


def loss(training: list[int], held_out: list[int], order: int) -> float:
    """Mean loss in nats a token, each after the order - 1 tokens before it in the stream."""
    grams = [Counter(zip(*(training[i:] for i in range(order)), strict=False))]
    while len(next(iter(grams[0]))) > 1:
        # Below the highest order a gram counts once for each token that stands before it.
        grams.insert(0, Counter(gram[1:] for gram in grams[0]))
    totals: list[Counter[Gram]] = [Counter() for _ in grams]
    kinds: list[Counter[Gram]] = [Counter() for _ in grams]
    for counts, total, kind in zip(grams, totals, kinds, strict=True):
        for gram, count in counts.items():
            total[gram[:-1]] += count
            kind[gram[:-1]] += 1

    nats = 0.0
    for end in range(1, len(held_out) + 1):
        probability = 1 / N_VOCAB
        for n in range(min(order, end)):
            gram = tuple(held_out[end - 1 - n : end])
            if total_here := totals[n][gram[:-1]]:
                discounted = max(grams[n][gram] - DISCOUNT, 0)
                probability = (
                    discounted + DISCOUNT * kinds[n][gram[:-1]] * probability
                ) / total_here
        nats -= math.log(probability)
    return nats / len(held_out)


def main() -> None:
    tokens = tensor.read(Path("data/tokens"))
    for order in (1, 2, 3):
        found = loss(tokens.train.tolist(), tokens.held_out.tolist(), order)
        print(f"{order} tokens: {found:.4f} nats, perplexity {math.exp(found):,.0f}")


if __name__ == "__main__":
    main()
