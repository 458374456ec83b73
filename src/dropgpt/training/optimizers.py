"""Which optimizer moves which parameters, at which rate and with which decay."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from dropgpt.model.gpt import GPT
from dropgpt.params import Train

MOMENTUM = 0.95  # of Muon, and its quintic's coefficients, as Jordan et al. have them
QUINTIC = 3.4445, -4.7750, 2.0315
ITERATIONS = 5


class Optimizers:
    """AdamW and, for the matrices inside the blocks where `params.optimizer` says so, Muon."""

    def __init__(self, model: GPT, params: Train, dtype: torch.dtype) -> None:
        """`dtype` is that of Muon's matrix products."""
        matrices = [p for p in model.h.parameters() if p.ndim == 2]
        token_embedding = model.wte.weight
        positions = model.wpe.weight
        vectors = [p for p in model.parameters() if p.ndim == 1]
        blocks = {"params": matrices, "rate_factor": params.matrix_rate_factor}
        others = [
            {"params": [token_embedding], "rate_factor": params.token_embedding_rate_factor},
            {"params": [positions], "rate_factor": 1.0},
            {
                "params": vectors,
                "rate_factor": 1.0,
                "weight_decay": params.weight_decay_biases_and_norms,
            },
        ]
        by_muon = params.optimizer == "muon"
        self.all: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(
                others if by_muon else [blocks, *others],
                betas=(params.beta1, params.beta2),
                weight_decay=params.weight_decay,
                fused=True,
            )
        ]
        if by_muon:
            self.all.append(Muon([blocks], params.weight_decay, dtype))

    def step(self, rate: float) -> None:
        """Move the parameters along their gradients, which are let go, at `rate` times a factor."""
        for optimizer in self.all:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["rate_factor"]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal, for matrices (Jordan et al. 2024).

    A step has the root mean square of one of AdamW's, about 0.2, so that it takes its rates and
    decay (Liu et al. 2025). It is torch.optim.Muon with `match_rms_adamw`, except that the matrix
    products are of type `dtype`, for bfloat16 takes 40 times as long where the hardware lacks it.
    """

    def __init__(
        self, params: Iterable[dict[str, Any]], weight_decay: float, dtype: torch.dtype
    ) -> None:
        super().__init__(params, {"lr": 0.0, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for matrix in group["params"]:
                state = self.state[matrix]
                if not state:
                    state["momentum"] = torch.zeros_like(matrix)
                momentum = state["momentum"].lerp_(matrix.grad, 1 - MOMENTUM)
                update = orthogonal(matrix.grad.lerp(momentum, MOMENTUM), self.dtype)
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-group["lr"] * 0.2 * math.sqrt(max(matrix.shape)))


def orthogonal(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """A matrix with the singular vectors of `matrix`, and singular values of 0.7 to 1.2.

    By the Newton-Schulz iteration of Jordan et al., which is quick rather than exact. Both are
    (rows, columns); the result has type `dtype`.
    """
    a, b, c = QUINTIC
    tall = matrix.size(0) > matrix.size(1)
    x = (matrix.T if tall else matrix).to(dtype)
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
