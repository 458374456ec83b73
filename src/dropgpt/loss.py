"""Cross-entropy over a large vocabulary without the whole tensor of logits.

At 50,257 tokens the logits of a batch are its largest tensor by far: 3.3 GB for 64 windows of
256 in float32. Both functions make a part of them at a time and let it go.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

CHUNK = 512  # rows; fewer slow the matrix products down, more fall out of the cache
TILE = 1024  # rows and columns, where nothing but a sum is taken from the logits


def token_losses(features: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """Loss of each token in nats, (n,) float32: log sum exp(z) - z[target].

    features (n, n_embd), head (vocabulary, n_embd), targets (n,) int64. For measuring: computed
    in float32, without gradients. The sum runs over tiles of the vocabulary, scaled to the
    largest logit so far (Milakov and Gimelshein 2018).
    """
    losses = torch.empty(len(targets), device=features.device)
    with torch.no_grad():
        for rows in _chunks(len(targets), TILE):
            x = features[rows].float()
            largest = torch.full((len(x), 1), -torch.inf, device=x.device)
            sums = torch.zeros_like(largest)
            for columns in _chunks(len(head), TILE):
                z = x @ head[columns].T
                larger = torch.maximum(largest, z.amax(1, keepdim=True))
                sums *= (largest - larger).exp_()
                sums += z.sub_(larger).exp_().sum(1, keepdim=True)
                largest = larger
            at_target = (x * head[targets[rows]]).sum(1)
            losses[rows] = (sums.log() + largest)[:, 0] - at_target
    return losses


def cross_entropy(features: Tensor, head: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
    """Sum of the tokens' losses in nats, a float32 scalar with gradients; shapes as above.

    The matrix products take operands of type `dtype`; sums are in float32.
    """
    loss: Tensor = _CrossEntropy.apply(features, head, targets, dtype)
    return loss


class _CrossEntropy(torch.autograd.Function):
    """The gradients are made on the way forward, while a chunk's logits are at hand.

    dL/dz = softmax(z) - onehot(target). Its row sums are divided out of the small operands of
    the two backward products and the onehot part is added to their results, so that one
    in-place exp is all that ever touches the logits.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, features: Tensor, head: Tensor, targets: Tensor, dtype: torch.dtype
    ) -> Tensor:
        features = features.float()
        low_head = head.to(dtype)
        low_features = features.to(dtype)
        logits = torch.empty(min(CHUNK, len(targets)), len(head), dtype=dtype, device=head.device)
        total = torch.zeros((), device=head.device)
        d_features = torch.empty_like(features)
        d_head = torch.zeros_like(head)
        for rows in _chunks(len(targets), CHUNK):
            n = len(targets[rows])
            z = torch.mm(low_features[rows], low_head.T, out=logits[:n])
            at_target = z.gather(1, targets[rows, None])
            largest = z.amax(1, keepdim=True)
            exp = z.sub_(largest).exp_()
            sums = exp.sum(1, keepdim=True).float()
            total += (sums.log() + largest.float() - at_target.float()).sum()
            d_features[rows] = (exp @ low_head).float() / sums
            d_head += exp.T @ (features[rows] / sums).to(dtype)
        d_features -= head[targets]
        d_head.index_add_(0, targets, features, alpha=-1)
        ctx.save_for_backward(d_features, d_head)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, d_loss: Tensor) -> tuple[Tensor | None, ...]:
        d_features, d_head = ctx.saved_tensors  # type: ignore[attr-defined]
        return d_features * d_loss, d_head * d_loss, None, None


def _chunks(n: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, n, size))
