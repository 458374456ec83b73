"""Dropout, and attention with dropout on its weights.

On a CPU torch draws a mask number by number on one thread, so masks are drawn here. Elsewhere
torch's own are used.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dropgpt.randomness import dropout_streams

LEVELS = 1 << 16  # of a rate, which is rounded to 1/65536: an element costs 16 random bits


class Dropout(nn.Module):
    """Zeroes elements with probability `rate` in training, and scales the rest by 1/(1-rate).

    A schedule moves `rate` between 0 and `full_rate`, which the model was made with.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = self.full_rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.rate:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.rate)
        keep, scale = keep_mask(x.shape, self.rate)
        return x * keep.to(x.dtype) * scale


def attention(q: Tensor, k: Tensor, v: Tensor, rate: float, is_causal: bool) -> Tensor:
    """softmax(q kᵀ / sqrt(width)) v, with dropout on the softmax; all (batch, heads, time, width).

    `rate` is 0 outside training: there is no mode here. With `is_causal`, which training on a CPU
    takes for granted, no position sees a later one.
    """
    if q.device.type != "cpu" or not (rate or (is_causal and q.requires_grad)):
        return F.scaled_dot_product_attention(q, k, v, dropout_p=rate, is_causal=is_causal)
    # Written out, it is quicker there and back than torch's, with dropout and without.
    shape = q.shape
    q, k, v = (x.flatten(0, 1) for x in (q, k, v))
    hidden = torch.full((q.shape[1], k.shape[1]), -torch.inf, dtype=q.dtype).triu_(1)
    with torch.autocast("cpu", enabled=False):  # it would have the softmax in float32
        weights = torch.baddbmm(hidden, q, k.mT, alpha=q.shape[-1] ** -0.5).softmax(-1)
        scale = 1.0
        if rate:
            keep, scale = keep_mask((*shape[:-1], k.shape[1]), rate)
            weights = weights * keep.flatten(0, 1).to(q.dtype)
        return (torch.bmm(weights, v) * scale).view(shape)


def attention_dropping_keys(q: Tensor, k: Tensor, v: Tensor, rate: float) -> Tensor:
    """Causal attention in which each position loses sight of keys with probability `rate`.

    DropKey (Li et al. 2023): the mask comes before the softmax, so the weights of the keys left
    add up to 1 and nothing is scaled. A position's own key stays, or it might see none at all.
    """
    shape = (*q.shape[:-1], k.shape[-2])
    if q.device.type == "cpu":
        seen, _ = keep_mask(shape, rate)
    else:
        seen = torch.rand(shape, device=q.device) >= rate
    own = torch.eye(shape[-2], dtype=torch.bool, device=q.device)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=(seen | own).tril_())


def keep_mask(shape: tuple[int, ...], rate: float) -> tuple[Tensor, float]:
    """True where an element stays, of `shape`, and the scale of those that stay.

    The first dimension is that of the windows for which `seed_dropout` has begun streams in this
    thread; they move on.
    """
    dropped = min(round(rate * LEVELS), LEVELS - 1)
    keep = np.empty(shape, dtype=bool)
    streams = dropout_streams()
    if len(streams) != len(keep):
        raise RuntimeError(
            f"dropout of {len(keep)} windows where seed_dropout has begun {len(streams)}: call it "
            "before each pass in training mode, or model.eval() where nothing is to be dropped"
        )
    for stream, window in zip(streams, keep, strict=True):
        numbers = stream.random_raw(-(-window.size // 4)).view(np.uint16)[: window.size]
        np.greater_equal(numbers.reshape(window.shape), dropped, out=window)
    return torch.from_numpy(keep), LEVELS / (LEVELS - dropped)


def leave_masks_uncompiled() -> None:
    """Have torch.compile call `keep_mask` as it is: it cannot look into NumPy's streams.

    Not a decorator, for which torch would import its compiler, a second, for everyone.
    """
    global keep_mask
    keep_mask = torch.compiler.disable(keep_mask)
