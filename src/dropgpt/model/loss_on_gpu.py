"""The loss by all logits of some rows at once; see `loss`.

A GPU wants few and large products, of operands whose width is a multiple of 64: its quick kernels
take no others. What stands between two products is one pass over the logits if it is compiled.
"""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 8192  # at once, with gradients; more take memory, fewer have the head's added up more often
ROWS_MEASURED = 2048  # without, in float32
MULTIPLE = 64

Softmax = Callable[[Tensor, Tensor, float, int], tuple[Tensor, Tensor]]


@torch.no_grad()
def token_losses(features: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """As `loss.token_losses`."""
    head = head.float()
    losses = torch.empty(len(targets), device=head.device)
    for start in range(0, len(targets), ROWS_MEASURED):
        rows = slice(start, start + ROWS_MEASURED)
        logits = features[rows].float() @ head.T
        at_target = logits.gather(1, targets[rows, None])
        losses[rows] = logits.logsumexp(1) - at_target[:, 0]
    return losses


@torch.no_grad()
def add_gradients(
    features: Tensor,
    head: Tensor,
    targets: Tensor,
    weight: float,
    dtype: torch.dtype,
    d_head: Tensor | None = None,
    softmax: Softmax | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `loss_on_cpu.add_gradients`; `softmax` may be `compiled_softmax`."""
    softmax = softmax or softmax_gradient
    n_vocab = len(head)
    x = features.to(dtype)
    padded = F.pad(head.to(dtype), (0, 0, 0, -n_vocab % MULTIPLE))
    total = torch.zeros((), device=head.device)
    d_features = torch.empty(features.shape, device=head.device)
    for start in range(0, len(targets), ROWS):
        rows = slice(start, start + ROWS)
        losses, d_logits = softmax(x[rows] @ padded.T, targets[rows], weight, n_vocab)
        total += losses.sum()
        d_features[rows] = d_logits @ padded
        product = (d_logits.T @ x[rows])[:n_vocab]
        if d_head is None:
            d_head = product.float()
        else:
            d_head += product
    assert d_head is not None
    return total, d_features, d_head


def softmax_gradient(
    logits: Tensor, targets: Tensor, weight: float, n_vocab: int
) -> tuple[Tensor, Tensor]:
    """The loss of each row in nats, and `weight` times the gradient of their sum by the logits.

    logits (rows, n_vocab or more): what stands behind n_vocab is no logit, and has a gradient of 0.
    The gradient, softmax(z) - onehot(target), has the logits' type.
    """
    columns = torch.arange(logits.shape[1], device=logits.device)
    z = torch.where(columns < n_vocab, logits.float(), -torch.inf)
    log_sums = z.logsumexp(1, keepdim=True)
    losses = log_sums - z.gather(1, targets[:, None])
    onehot = columns == targets[:, None]
    gradient = ((z - log_sums).exp() - onehot.float()) * weight
    return losses[:, 0], gradient.to(logits.dtype)


@cache
def compiled_softmax() -> Softmax:
    """`softmax_gradient` in two passes over the logits instead of eight."""
    return torch.compile(softmax_gradient, dynamic=False)
