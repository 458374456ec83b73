"""Cross-entropy over a large vocabulary without the whole tensor of logits.

At 50,257 tokens the logits of a batch are its largest tensor by far: 3.3 GB for 64 windows of
256 in float32. Both functions make a part of them at a time and let it go. They take the logits
in tiles that stay in a CPU's cache, and scale the sum of their exponentials to the largest logit
so far (Milakov and Gimelshein 2018). Logits are in bits here, z log2(e), since exp2 is twice as
fast as exp on a CPU and the factor can be put on the small operand of a product.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

CHUNK = 1024  # rows; fewer have the head's gradient added up more often
TILE = 1024  # columns; fewer slow the matrix products down, more fall out of the cache
LOG2_E = math.log2(math.e)


def token_losses(features: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """Loss of each token in nats, (n,) float32: log sum exp(z) - z[target].

    features (n, n_embd), head (vocabulary, n_embd), targets (n,) int64. For measuring: computed
    in float32, without gradients.
    """
    losses = torch.empty(len(targets), device=features.device)
    tiles = list(_chunks(len(head), _tile(head)))
    with torch.no_grad():
        for rows in _chunks(len(targets), CHUNK):
            x = features[rows].float()
            bits = x * LOG2_E
            largest, sums = _nothing_yet(x)
            for columns in tiles:
                largest, _ = _add(bits @ head[columns].T, largest, sums)
            losses[rows] = _losses(x, head, targets[rows], largest, sums)
    return losses


def cross_entropy(features: Tensor, head: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
    """Sum of the tokens' losses in nats, a float32 scalar with gradients; shapes as above.

    The matrix products take operands of type `dtype`; sums are in float32.
    """
    loss: Tensor = _CrossEntropy.apply(features, head, targets, dtype)
    return loss


class _CrossEntropy(torch.autograd.Function):
    """The gradients are made on the way forward, while a chunk's logits are at hand.

    dL/dz = softmax(z) - onehot(target). The softmax's row sums, and what its tiles were scaled
    to, are divided out of the small operands of the two backward products, and the onehot part
    is added to their results. So there is one exponential a logit.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, features: Tensor, head: Tensor, targets: Tensor, dtype: torch.dtype
    ) -> Tensor:
        features = features.float()
        low_head = head.to(dtype)
        bits = (features * LOG2_E).to(dtype)
        total = torch.zeros((), device=head.device)
        d_features = torch.zeros_like(features)
        d_head = torch.zeros_like(head)
        memory = head.new_empty(min(CHUNK, len(targets)) * len(head), dtype=dtype)
        tiles = list(_chunks(len(head), _tile(head)))
        for rows in _chunks(len(targets), CHUNK):
            x, d_x = features[rows], d_features[rows]
            largest, sums = _nothing_yet(x)
            scaled_to = []
            exps = [
                part.view(len(x), -1)
                for part in memory[: len(x) * len(head)].split(len(x) * _tile(head))
            ]
            for columns, exp in zip(tiles, exps, strict=True):
                torch.mm(bits[rows], low_head[columns].T, out=exp)
                largest, rescale = _add(exp, largest, sums)
                d_x.mul_(rescale).add_(exp @ low_head[columns])
                scaled_to.append(largest)
            total += _losses(x, head, targets[rows], largest, sums).sum()
            d_x /= sums
            x = x / sums
            for columns, exp, scale in zip(tiles, exps, scaled_to, strict=True):
                d_head[columns] += exp.T @ (x * (scale - largest).exp2()).to(dtype)
        d_features -= head[targets]
        d_head.index_add_(0, targets, features, alpha=-1)
        ctx.save_for_backward(d_features, d_head)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, d_loss: Tensor) -> tuple[Tensor | None, ...]:
        d_features, d_head = ctx.saved_tensors  # type: ignore[attr-defined]
        return d_features * d_loss, d_head * d_loss, None, None


def _nothing_yet(x: Tensor) -> tuple[Tensor, Tensor]:
    """The largest logit of no tile, and the sum of its exponentials, (rows, 1) each."""
    largest = torch.full((len(x), 1), -torch.inf, device=x.device)
    return largest, torch.zeros_like(largest)


def _add(z: Tensor, largest: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
    """Make 2^(z - largest so far) of a tile z and add it to `sums`, which follow the largest.

    Gives the new largest, and the factor by which what was scaled to the old one must shrink.
    """
    bits = z.float()  # a CPU takes the steps below twice as fast as in bfloat16
    larger = torch.maximum(largest, bits.amax(1, keepdim=True))
    rescale = (largest - larger).exp2_()
    bits.sub_(larger).exp2_()
    sums.mul_(rescale).add_(bits.sum(1, keepdim=True))
    z.copy_(bits)
    return larger, rescale


def _losses(x: Tensor, head: Tensor, targets: Tensor, largest: Tensor, sums: Tensor) -> Tensor:
    return (sums.log2() + largest)[:, 0] / LOG2_E - (x * head[targets]).sum(1)


def _tile(head: Tensor) -> int:
    """Columns of a tile: on a GPU all, since its kernels make tiles of their own."""
    return TILE if head.device.type == "cpu" else len(head)


def _chunks(n: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
