"""Dropout, and attention with dropout on its weights, at the full speed of a CPU.

On a CPU torch draws a mask number by number on one thread, and with dropout its attention takes a
slow path. Elsewhere torch's own are used.
"""

from collections.abc import Iterator
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
SCORES = 1 << 19  # attention scores that are worked on at once: as many as stay in the cache
QUERIES = 64  # positions that are worked on at once: keys behind the last are left out


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
    """Some heads and positions at a time. The weights are made anew on the way back, not kept."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, keep: Tensor, scale: float) -> Tensor:
        shape = q.shape
        q, k, v, keep = (x.flatten(0, 1) for x in (q, k, v, keep))  # (batch x heads, time, width)
        y = torch.empty_like(q)
        hidden = _hidden(q)
        for heads, queries, keys in _parts(keep):
            weights = _weights(q[heads, queries], k[heads, keys], hidden[queries, keys])
            dropped = weights.mul_(keep[heads, queries, keys]).to(v.dtype)
            y[heads, queries] = torch.bmm(dropped, v[heads, keys]).mul_(scale)
        ctx.save_for_backward(q, k, v, keep, y)
        ctx.scale = scale
        return y.view(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, keep, y = ctx.saved_tensors
        shape, dy = dy.shape, dy.flatten(0, 1)
        # The softmax's gradient: d_score = weight (d_weight - sum of weight d_weight), and that
        # sum is dy y (Dao et al. 2022).
        inner = (dy.float() * y).sum(-1, keepdim=True)
        dy = dy * ctx.scale
        dq = torch.empty_like(q)
        dk, dv = (torch.zeros(k.shape) for _ in range(2))
        hidden = _hidden(q)
        for heads, queries, keys in _parts(keep):
            part = keep[heads, queries, keys]
            weights = _weights(q[heads, queries], k[heads, keys], hidden[queries, keys])
            d_weights = torch.bmm(dy[heads, queries], v[heads, keys].mT).float().mul_(part)
            d_scores = d_weights.sub_(inner[heads, queries]).mul_(weights).to(q.dtype)
            dropped = weights.mul_(part).to(v.dtype)
            dv[heads, keys] += torch.bmm(dropped.mT, dy[heads, queries])
            dq[heads, queries] = torch.bmm(d_scores, k[heads, keys])
            dk[heads, keys] += torch.bmm(d_scores.mT, q[heads, queries])
        root = q.shape[-1] ** -0.5
        gradients = (dq.mul_(root), dk.mul_(root), dv)
        return *(d.to(q.dtype).view(shape) for d in gradients), None, None


def _weights(q: Tensor, k: Tensor, hidden: Tensor) -> Tensor:
    """The softmax of the scores, (heads, queries, keys) float32."""
    return torch.baddbmm(hidden, q, k.mT, alpha=q.shape[-1] ** -0.5).float().softmax(-1)


def _hidden(q: Tensor) -> Tensor:
    """0 where a position sees another, -inf where not."""
    time = q.shape[-2]
    return torch.full((time, time), -torch.inf, dtype=q.dtype).triu_(1)


def _parts(keep: Tensor) -> Iterator[tuple[slice, slice, slice]]:
    """Heads, some of their positions, and the keys that these see, worked on together."""
    heads, time, _ = keep.shape
    for start in range(0, time, QUERIES):
        end = min(start + QUERIES, time)
        size = max(1, SCORES // (QUERIES * end))
        for first in range(0, heads, size):
            yield slice(first, first + size), slice(start, end), slice(end)
