"""The loss in tiles of logits that stay in a CPU's cache; see `loss`.

A token's loss is the log of sum_j exp(z_j - z_target): with the difference made inside the matrix
product, by one more column, a logit is written once, made an exponential where it is, and read by
the products. Logits are in bits here, z log2(e), since exp2 is quicker than exp and the factor
can be put on the small operand of a product.
"""

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from dropgpt.machine.threads import in_threads, pieces

CHUNK = 2048  # rows; fewer have the head's gradient added up more often
MEASURED = 512  # rows where no gradient is made: a tile of their logits stays in a core's own cache
TILE = 2048  # columns; fewer slow the matrix products down, more fall out of a CPU's cache
LOG2_E = math.log2(math.e)


@torch.no_grad()
def token_losses(features: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """As `loss.token_losses`; in the calling thread alone."""
    with_ones = F.pad(head.float(), (0, 1), value=1.0)
    losses = torch.empty(len(targets))

    def sums(shifted: Tensor) -> Tensor:
        result = torch.zeros(len(shifted), 1)
        for tile in _tiles(head):
            result += (shifted @ with_ones[tile].T).exp2_().sum(1, keepdim=True)
        return result

    for rows in _chunks(len(targets), MEASURED):
        losses[rows], _ = _losses(features[rows].float(), head, targets[rows], sums, torch.float32)
    return losses


@torch.no_grad()
def add_gradients(
    features: Tensor,
    head: Tensor,
    targets: Tensor,
    weight: float,
    dtype: torch.dtype,
    d_head: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The sum of the tokens' losses in nats, a scalar, and its gradients by features and head.

    Shapes as in `loss.token_losses`. Both gradients are those of `weight` times the sum; the one by
    the head is added to `d_head`, where there is one already. The matrix products take operands of
    type `dtype`; sums are in float32. The tiles are shared out to the threads.

    dL/dz = softmax(z) - onehot(target). The softmax's row sums are divided out of the small
    operands of the two backward products, and the onehot part is added to their results.
    """
    features = features.float()
    with_ones: dict[int, Tensor] = {}  # tiles of the head with a column of ones, in `dtype`
    exps: dict[int, Tensor] = {}

    def products(shifted: Tensor) -> Tensor:
        """Of the exponentials with the head and its column of ones, which gives their sums."""

        def product(tile: slice) -> Tensor:
            if tile.start not in with_ones:
                with_ones[tile.start] = F.pad(head[tile].to(dtype), (0, 1), value=1.0)
            low_head = with_ones[tile.start]
            exps[tile.start] = exp = (shifted @ low_head.T).exp2_()
            return exp @ low_head

        result = torch.zeros(shifted.shape)
        for part in in_threads(product, _tiles(head)):
            result += part
        return result

    begins = d_head is None
    gradient = torch.empty_like(head) if d_head is None else d_head
    total = torch.zeros(())
    d_features = torch.empty_like(features)
    for rows in _chunks(len(targets), CHUNK):
        losses, found = _losses(features[rows], head, targets[rows], products, dtype)
        total += losses.sum()
        factor = weight / found[:, -1:]
        d_features[rows] = found[:, :-1] * factor
        x = (features[rows] * factor).to(dtype)

        def add(tile: slice, x: Tensor = x, first: bool = begins and not rows.start) -> None:
            product = exps.pop(tile.start).T @ x
            if first:  # a pass less than adding it to zeros, over a tensor as large as the head
                gradient[tile] = product
            else:
                gradient[tile] += product

        list(in_threads(add, _tiles(head)))
    d_features.sub_(head[targets], alpha=weight)
    gradient.index_add_(0, targets, features, alpha=-weight)
    return total, d_features, gradient


def _losses(
    x: Tensor,
    head: Tensor,
    targets: Tensor,
    work: Callable[[Tensor], Tensor],
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """The loss of each row in nats, and what `work` gives, the last column of which are sums.

    `work` is given x in bits with a column more, by which its product with the head and a column
    of ones is the logits minus the target's. Where a loss is above 88 nats their
    exponentials are beyond float32: then the largest logit is subtracted instead.
    """
    bits = (x * LOG2_E).to(dtype)
    at_target = (bits.float() * head[targets].to(dtype)).sum(1, keepdim=True)
    shift = at_target.to(dtype)  # what is subtracted must be what is added again
    found = work(torch.cat([bits, -shift], 1))
    if not found[:, -1].isfinite().all():
        shift = _largest(bits, head)
        found = work(torch.cat([bits, -shift], 1))
    return (found[:, -1].log2() + (shift - at_target)[:, 0]) / LOG2_E, found


def _largest(bits: Tensor, head: Tensor) -> Tensor:
    """The largest logit of each row, (rows, 1)."""
    tiles = (head[tile].to(bits.dtype) for tile in _tiles(head))
    of_tiles = [(bits @ tile.T).amax(1, keepdim=True) for tile in tiles]
    return torch.cat(of_tiles, 1).amax(1, keepdim=True)


def _tiles(head: Tensor) -> Iterator[slice]:
    """Columns at a time."""
    return _chunks(len(head), TILE)


def _chunks(n: int, size: int) -> Iterator[slice]:
    return (slice(piece.start, piece.stop) for piece in pieces(n, size))
