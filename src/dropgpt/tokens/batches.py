"""(token tensor, seed, step) -> inputs and targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from dropgpt.params import Train
from dropgpt.randomness import generator
from dropgpt.tokens.array import Array, Tokens

if TYPE_CHECKING:
    import torch  # slow to import, and `dropgpt trace` has no other use for it

Starts = npt.NDArray[np.int64]


def epoch_starts(n_tokens: int, n_ctx: int) -> Starts:
    """Where the windows of an epoch begin, (windows,): side by side, so that none is missed.

    A window at s has the inputs s..s+n_ctx-1 and the targets one to the right. The last window
    is moved left to end with the last token, so it may overlap the one before.
    """
    starts = np.arange(0, n_tokens - 1, n_ctx, dtype=np.int64)
    return np.minimum(starts, n_tokens - 1 - n_ctx)


def spread_starts(n_tokens: int, n_ctx: int, windows: int) -> Starts:
    """Where `windows` windows begin, (windows or fewer,), evenly spaced and always the same."""
    starts = epoch_starts(n_tokens, n_ctx)
    chosen = np.linspace(0, len(starts) - 1, min(windows, len(starts)))
    return starts[np.round(chosen).astype(np.int64)]


def batch_starts(
    n_tokens: int,
    n_ctx: int,
    batch_size: int,
    sampling: Literal["epoch", "fixed", "random"],
    seed: int,
    step: int,
) -> Starts:
    """Where the windows of step `step` begin, (batch_size,).

    `epoch`: the windows of `epoch_starts` in a permutation of (seed, epoch), epoch after epoch;
    a batch may hold the end of one and the start of the next. From the second epoch on all windows
    are moved to the right by an offset of (seed, epoch), so that none but the last, which ends with
    the text, is read again as it was; the tokens before the first one, fewer than n_ctx, are left
    out in that epoch, and the end of the text may be read twice. `fixed`: the same without the
    offsets. `random`: anywhere, with replacement.
    """
    if sampling == "random":
        return generator(seed, "data order", step).integers(0, n_tokens - n_ctx, batch_size)
    count = len(range(0, n_tokens - 1, n_ctx))
    epochs, places = np.divmod(
        np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int64), count
    )
    batch = np.empty(batch_size, dtype=np.int64)
    for epoch in np.unique(epochs).tolist():
        own = epochs == epoch
        moved = _offset(seed, epoch, n_ctx) if sampling == "epoch" else 0
        batch[own] = _order(seed, epoch, count)[places[own]] * n_ctx + moved
    return np.minimum(batch, n_tokens - 1 - n_ctx)  # as `epoch_starts` has them


def _offset(seed: int, epoch: int, n_ctx: int) -> int:
    """How far the windows of an epoch lie to the right of those of the first."""
    return int(generator(seed, "data order", f"{epoch}/offset").integers(n_ctx)) if epoch else 0


@lru_cache(maxsize=2)  # no batch needs more, and one of ten million windows takes a second
def _order(seed: int, epoch: int, windows: int) -> Starts:
    """The windows of an epoch, (windows,), in the order in which they are read."""
    return generator(seed, "data order", epoch).permutation(windows)


def readings(params: Mapping[str, Any], n_train: int) -> float:
    """How often a training reads each of its tokens, in the mean, of a training part of `n_train`.

    `params` are the sections model and train, as the record of stage train has them.
    """
    return _read(params) / (params["train"]["tokens"] or n_train)


def readings_in_words(params: Mapping[str, Any], n_train: int | None) -> str:
    """The same for people, and the tokens read in all; these alone where `n_train` is not known."""
    first = params["train"]["tokens"]
    read = f"{_read(params):,} tokens"
    if not (first or n_train):
        return read
    often = readings(params, n_train or 0)
    part = f"the first {first:,} of the training part" if first else "the training part"
    return f"{read}, {part} {f'{often:.1f}' if often >= 0.05 else 'less than 0.1'} times"


def _read(params: Mapping[str, Any]) -> int:
    train: Mapping[str, int] = params["train"]
    return train["steps"] * train["batch_size"] * int(params["model"]["n_ctx"])


@dataclass(frozen=True)
class Batches:
    """The windows that a process reads of each step's batch: those numbered `own`."""

    tokens: Tokens
    n_ctx: int
    n_vocab: int
    params: Train
    own: range

    def rows(self, step: int) -> Array:
        """Inputs and targets of step `step`, (2, windows, n_ctx); some inputs may be replaced."""
        starts = batch_starts(
            len(self.tokens),
            self.n_ctx,
            self.params.batch_size,
            self.params.sampling,
            self.params.seed,
            step,
        )
        own = slice(self.own.start, self.own.stop)
        rows = _rows(self.tokens, starts[own], self.n_ctx)
        if self.params.token_replacement:
            chosen, others = self.replacements(step)
            np.copyto(rows[0], others[own], where=chosen[own])
        return rows

    def replacements(self, step: int) -> tuple[npt.NDArray[np.bool_], Array]:
        """Which inputs are replaced and by what, each (batch_size, n_ctx): of the whole batch.

        The targets stay: Xu 2026 (arXiv 2606.06888), after Bowman et al. 2016 (arXiv 1511.06349).
        """
        drawn = generator(self.params.seed, "token replacement", step)
        size = self.params.batch_size, self.n_ctx
        chosen = drawn.random(size) < self.params.token_replacement
        return chosen, drawn.integers(self.n_vocab, size=size, dtype=np.uint16)

    def windows(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The same as tensors: inputs and targets, each (windows, n_ctx) int64 on the CPU."""
        return _as_tensors(self.rows(step))


def windows(tokens: Tokens, starts: Starts, n_ctx: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets at `starts`, each (len(starts), n_ctx) int64 on the CPU."""
    return _as_tensors(_rows(tokens, starts, n_ctx))


def _rows(tokens: Tokens, starts: Starts, n_ctx: int) -> Array:
    """Inputs and targets at `starts`, (2, len(starts), n_ctx)."""
    both = tokens[starts[:, None] + np.arange(n_ctx + 1)]
    return np.stack([both[:, :-1], both[:, 1:]])


def _as_tensors(rows: Array) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    inputs, targets = torch.from_numpy(rows.astype(np.int64))
    return inputs, targets
