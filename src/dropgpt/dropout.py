"""Dropout, and attention with dropout on its weights, at the full speed of a CPU.

On a CPU torch draws a mask number by number on one thread, and with dropout its attention takes a
slow path. Elsewhere torch's own are used.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

BLOCK = 1 << 19  # elements of a mask that one stream draws, whatever the number of threads
LEVELS = 1 << 16  # of a rate, which is rounded to 1/65536: an element costs 16 random bits
SCORES = 1 << 20  # attention scores that are worked on at once: as many as stay in the cache


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
        y: Tensor = _Dropout.apply(x, *keep_mask(x.shape, self.rate))
        return y


def attention(q: Tensor, k: Tensor, v: Tensor, rate: float, is_causal: bool) -> Tensor:
    """softmax(q kᵀ / sqrt(width)) v, with dropout on the softmax; all (batch, heads, time, width).

    `rate` is 0 outside training: there is no mode here. With `is_causal`, which dropout on a CPU
    takes for granted, no position sees a later one.
    """
    if rate and q.device.type == "cpu":
        y: Tensor = _Attention.apply(q, k, v, *keep_mask((*q.shape[:-1], k.shape[-2]), rate))
        return y
    return F.scaled_dot_product_attention(q, k, v, dropout_p=rate, is_causal=is_causal)


def attention_dropping_keys(q: Tensor, k: Tensor, v: Tensor, rate: float) -> Tensor:
    """Causal attention in which each position loses sight of keys with probability `rate`.

    DropKey (Li et al. 2023): the mask comes before the softmax, so the weights of the keys left
    add up to 1 and nothing is scaled. A position's own key stays, or it might see none at all.
    """
    shape = (*q.shape[:-1], k.shape[-2])
    if q.device.type == "cpu":
        seen = keep_mask(shape, rate)[0].bool()
    else:
        seen = torch.rand(shape, device=q.device) >= rate
    own = torch.eye(shape[-2], dtype=torch.bool, device=q.device)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=(seen | own).tril_())


def keep_mask(shape: tuple[int, ...], rate: float) -> tuple[Tensor, float]:
    """1 where an element stays, else 0, uint8 of `shape`, and the scale of those that stay.

    Not bool, by which a CPU multiplies three times slower. A function of the state of torch's
    generator on the CPU, which moves on by one number.
    """
    key = int(torch.randint(1 << 62, ()))
    dropped = min(round(rate * LEVELS), LEVELS - 1)
    keep = np.empty(shape, dtype=bool)
    flat = keep.reshape(-1)

    def draw(start: int) -> None:
        part = flat[start : start + BLOCK]
        stream = np.random.SFC64([key, start])
        numbers = stream.random_raw(-(-len(part) // 4)).view(np.uint16)
        np.greater_equal(numbers[: len(part)], dropped, out=part)

    list(_threads(torch.get_num_threads()).map(draw, range(0, len(flat), BLOCK)))
    return torch.from_numpy(keep.view(np.uint8)), LEVELS / (LEVELS - dropped)


@cache
def _threads(number: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(number)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return (x * keep).mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        (keep,) = ctx.saved_tensors
        return (dy * keep).mul_(ctx.scale), None, None


class _Attention(torch.autograd.Function):
    """Some windows at a time. The weights are made anew on the way back rather than kept."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, keep: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(q, k, v, keep)
        ctx.scale = scale
        y = torch.empty_like(q)
        hidden = _hidden(q)
        for rows in _groups(keep):
            weights = _weights(q[rows], k[rows], hidden)
            dropped = weights.mul_(keep[rows]).to(v.dtype)
            y[rows] = torch.matmul(dropped, v[rows]).mul_(scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, keep = ctx.saved_tensors
        dq, dk, dv = map(torch.empty_like, (q, k, v))
        hidden = _hidden(q)
        for rows in _groups(keep):
            weights = _weights(q[rows], k[rows], hidden)
            dropped = weights * keep[rows]
            dy_scaled = dy[rows] * ctx.scale
            dv[rows] = torch.matmul(dropped.mT.to(v.dtype), dy_scaled)
            d_weights = torch.matmul(dy_scaled, v[rows].mT).float().mul_(keep[rows])
            # The softmax's gradient: d_score = weight (d_weight - sum of weight d_weight).
            inner = dropped.mul_(d_weights).sum(-1, keepdim=True)
            d_scores = d_weights.sub_(inner).mul_(weights).mul_(q.shape[-1] ** -0.5).to(q.dtype)
            dq[rows] = torch.matmul(d_scores, k[rows])
            dk[rows] = torch.matmul(d_scores.mT, q[rows])
        return dq, dk, dv, None, None


def _weights(q: Tensor, k: Tensor, hidden: Tensor) -> Tensor:
    """The softmax of the scores, (windows, heads, time, time) float32."""
    q, k, windows = q.flatten(0, 1), k.flatten(0, 1), len(q)
    scores = torch.baddbmm(hidden, q, k.mT, alpha=q.shape[-1] ** -0.5)
    return scores.float().softmax(-1).unflatten(0, (windows, -1))  # type: ignore[no-any-return]


def _hidden(q: Tensor) -> Tensor:
    """0 where a position sees another, -inf where not."""
    time = q.shape[-2]
    return torch.full((time, time), -torch.inf, dtype=q.dtype).triu_(1)


def _groups(keep: Tensor) -> list[slice]:
    """Windows that are worked on together."""
    size = max(1, SCORES // keep[0].numel())
    return [slice(start, start + size) for start in range(0, len(keep), size)]
