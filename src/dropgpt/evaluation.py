"""The held-out loss: every token predicted exactly once, with all the context it may have."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from dropgpt.machine import processes
from dropgpt.machine.threads import in_threads, pieces
from dropgpt.model.gpt import GPT
from dropgpt.model.loss import token_losses
from dropgpt.params import Evaluate
from dropgpt.randomness import seed_dropout
from dropgpt.tokens.array import Tokens

Losses = npt.NDArray[np.float32]
# (rows, measured, targets): of what follows at the measured places of (batch, time), in nats, (n,).
Nats = Callable[[Tensor, Tensor, Tensor], Tensor]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Window:
    """The targets first..end-1 of a stream are read together; those from `score` on are measured.

    `opens` says that the first target has nothing before it that it may see.
    """

    first: int
    score: int
    end: int
    opens: bool


def plan(
    lengths: npt.NDArray[np.int64], n_ctx: int, stride: int, across_documents: bool = False
) -> list[Window]:
    """Windows over documents of `lengths` tokens that lie side by side in a stream.

    Within a document each window begins `stride` tokens after the one before, is at most n_ctx
    long, and measures what no earlier one has. So each token is measured once, and sees at
    least n_ctx - stride tokens of its document, or all that there are. `across_documents` takes
    all of them for one.
    """
    windows = []
    begin = 0
    for length in [int(lengths.sum())] if across_documents else map(int, lengths):
        limit = begin + length
        score = begin
        while score < limit:
            end = min(limit, score + (n_ctx if score == begin else stride))
            first = max(begin, end - n_ctx)
            windows.append(Window(first, score, end, opens=first == begin))
            score = end
        begin = limit
    return windows


def losses(
    model: GPT,
    tokens: Tokens,
    windows: list[Window],
    batch_size: int,
    advance: Callable[[int], Any] = lambda n: None,
    before_batch: Callable[[range], Any] = lambda windows: None,
) -> Losses:
    """Loss in nats of each token of the stream `tokens`, (len(tokens),), in float32.

    The model's mode is the caller's: eval to measure, train to leave dropout on.
    """
    measuring = partial(gpt_nats, model), model.end_of_text
    return stream_losses(*measuring, tokens, windows, batch_size, advance, before_batch)


def gpt_nats(model: GPT, rows: Tensor, measured: Tensor, targets: Tensor) -> Tensor:
    """The `Nats` of a GPT of our own class."""
    features = model.features(rows.to(model.device))[measured.to(model.device)]
    return token_losses(features, model.head, targets.to(model.device))


def stream_losses(
    nats: Nats,
    begin: int,
    tokens: Tokens | npt.NDArray[np.int64],
    windows: list[Window],
    batch_size: int,
    advance: Callable[[int], Any] = lambda n: None,
    before_batch: Callable[[range], Any] = lambda windows: None,
) -> Losses:
    """The same of any model, whose losses `nats` finds; a document begins after the token `begin`.

    `advance` is told how many tokens a batch has measured, `before_batch` the numbers of the
    windows to come, in the thread that reads them. Several processes share the batches, for all.
    """
    # What several processes have measured is added up, each token in one of them.
    result = np.full(len(tokens), 0 if processes.number() > 1 else np.nan, dtype=np.float32)
    inputs = np.roll(tokens, 1)  # what stands before target t is at t
    by_length = sorted(windows, key=lambda w: w.first - w.end)

    def measure(numbers: range) -> tuple[npt.NDArray[np.int64], Losses]:
        """Which of the tokens these windows measure, and their losses."""
        before_batch(numbers)
        batch = by_length[numbers.start : numbers.stop]
        width = batch[0].end - batch[0].first
        # Padding stands to the right, where a causal model cannot see it.
        rows = np.full((len(batch), width), begin, dtype=np.int64)
        measured = np.zeros((len(batch), width), dtype=bool)
        for row, w in enumerate(batch):
            rows[row, : w.end - w.first] = inputs[w.first : w.end]
            if w.opens:
                rows[row, 0] = begin
            measured[row, w.score - w.first : w.end - w.first] = True
        targets = np.concatenate([np.arange(w.score, w.end) for w in batch])
        ids = tokens[targets].astype(np.int64)
        return targets, nats(*map(torch.from_numpy, (rows, measured, ids))).cpu().numpy()

    others = len(tokens)
    for targets, found in _measured(measure, pieces(len(by_length), batch_size)):
        result[targets] = found
        advance(len(targets))
        others -= len(targets)
    if processes.number() > 1:
        advance(others)
        processes.add_up([torch.from_numpy(result)])
    return result


def document_losses(
    model: GPT,
    tokens: Tokens,
    documents: pd.DataFrame,
    params: Evaluate,
    advance: Callable[[int], Any] = lambda n: None,
) -> pd.DataFrame:
    """`documents` with four more columns, the sum over each one's tokens in nats.

    nats              in eval mode
    nats_of_text      the same without <|endoftext|>, which closes a document but is no part of it
    nats_dropout_on   dropout as in training, with the masks of (seed, pass, window): the mean of
                      `dropout_passes`
    nats_monte_carlo  of the mean of the passes' probabilities (Gal and Ghahramani 2016)
    """
    lengths = documents.tokens.to_numpy()
    windows = plan(lengths, model.config.n_ctx, params.stride, params.across_documents)
    model.eval()
    off = losses(model, tokens, windows, params.batch_size, advance)
    model.train()
    on = np.zeros(len(documents))
    likelihood = np.full(len(tokens), -np.inf)  # log of the sum of the probabilities
    for number in range(params.dropout_passes):
        found = losses(
            model,
            tokens,
            windows,
            params.batch_size,
            advance,
            partial(seed_dropout, params.seed, "evaluation", number, device=model.device),
        )
        on += by_document(found, documents)
        np.logaddexp(likelihood, -found, out=likelihood)
    model.eval()
    return documents.assign(
        nats=by_document(off, documents),
        nats_of_text=by_document(np.where(tokens == model.end_of_text, 0, off), documents),
        nats_dropout_on=on / params.dropout_passes,
        nats_monte_carlo=by_document(math.log(params.dropout_passes) - likelihood, documents),
    )


def by_document(
    losses: npt.NDArray[np.floating], documents: pd.DataFrame
) -> npt.NDArray[np.float64]:
    """The sum over each document's tokens, (len(documents),), in float64."""
    lengths = documents.tokens.to_numpy()
    begins = np.cumsum(lengths) - lengths
    sums = np.zeros(len(lengths))
    some = lengths > 0  # reduceat would give a document without tokens the next one's first loss
    sums[some] = np.add.reduceat(losses.astype(np.float64), begins[some])
    return sums


def window_loss(model: GPT, inputs: Tensor, targets: Tensor, batch_size: int) -> float:
    """Mean loss in nats of windows (n, n_ctx), in eval mode, which the model leaves again."""
    was_training = model.training
    model.eval()

    def nats(part: range) -> float:
        rows = slice(part.start, part.stop)
        features = model.features(inputs[rows].to(model.device)).flatten(0, 1)
        found = token_losses(features, model.head, targets[rows].to(model.device).flatten())
        return float(found.cpu().double().sum())

    found = sum(_measured(nats, pieces(len(inputs), batch_size)))
    total = torch.tensor(found, dtype=torch.float64)
    model.train(was_training)
    processes.add_up([total])
    return float(total) / targets.numel()


def _measured(measure: Callable[[range], Result], batches: list[range]) -> Iterator[Result]:
    """What is found of the batches that are this process's to measure."""
    own = batches[processes.rank() :: processes.number()]
    with torch.no_grad():
        yield from in_threads(measure, own)
        if len(own) < math.ceil(len(batches) / processes.number()):
            measure(batches[0])  # for the others: sharded weights come together if all ask for them
