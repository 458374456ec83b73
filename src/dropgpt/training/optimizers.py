"""Which optimizer moves which parameters, at which rate and with which decay."""

import math
from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from dropgpt.model.gpt import GPT
from dropgpt.model.sharding import gathered, local, part
from dropgpt.params import Train

EPSILON = 1e-8  # of AdamW
MOMENTUM = 0.95  # of Muon, and its quintic's coefficients, as Jordan et al. have them
QUINTIC = 3.4445, -4.7750, 2.0315
ITERATIONS = 5

Part = tuple[Tensor, ...]  # of a parameter: itself, its gradient, and both moments
Number = float | Tensor  # a tensor where a CUDA graph reads it: it may change from step to step


@dataclass(frozen=True)
class Group:
    """Parameters that AdamW moves at one rate, `factor` times the step's, and with one decay."""

    names: list[str]
    factor: float
    decay: float


class Optimizers:
    """AdamW and, for the matrices inside the blocks where `params.optimizer` says so, Muon.

    moments       the running means of the gradients, for each parameter by its name
    adamw_groups  what AdamW moves
    muon_groups   the names of Muon's matrices, those of one shape together
    muon_step     the function of that name, or the same compiled
    """

    def __init__(self, model: GPT, params: Train, dtype: torch.dtype) -> None:
        """`dtype` is that of Muon's matrix products."""
        self.params = params
        self.dtype = dtype
        self.parameters = dict(model.named_parameters())
        self.moments = {
            name: {
                moment: torch.zeros_like(parameter)
                for moment in (("momentum",) if self._by_muon(name) else ("mean", "square"))
            }
            for name, parameter in self.parameters.items()
        }
        by_shape: defaultdict[torch.Size, list[str]] = defaultdict(list)
        by_rate: defaultdict[tuple[float, float], list[str]] = defaultdict(list)
        for name, parameter in self.parameters.items():
            if self._by_muon(name):
                by_shape[wide(parameter).shape].append(name)
            else:
                by_rate[self._factor(name), self._decay(name)].append(name)
        self.adamw_groups = [Group(names, *rates) for rates, names in by_rate.items()]
        self.muon_groups = list(by_shape.values())
        self.muon_step = muon_step

    def step(self, steps: Tensor, rate: Number) -> None:
        """Move all parameters along their gradients; `steps` counts the updates with this one."""
        for group in self.adamw_groups:
            parts = [self.held(name) for name in group.names]
            self.adamw(parts, steps, rate * group.factor, group.decay)
        for names in self.muon_groups:
            self.muon(names, rate)

    def held(self, name: str) -> Part:
        """What AdamW reads and writes of a parameter, so far as this process holds it."""
        whole = self.parameters[name], self._gradient(name), *self.moments[name].values()
        return tuple(map(local, whole))

    @torch.no_grad()
    def adamw(self, parts: list[Part], steps: Tensor, rate: Number, decay: float) -> None:
        """AdamW (Loshchilov and Hutter 2019) in one pass over memory."""
        parameters, gradients, means, squares = map(list, zip(*parts, strict=True))
        torch._fused_adamw_(
            parameters,
            gradients,
            means,
            squares,
            [],
            [steps] * len(parts),
            lr=rate,
            beta1=self.params.beta1,
            beta2=self.params.beta2,
            weight_decay=decay,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )

    @torch.no_grad()
    def muon(self, names: list[str], rate: Number) -> None:
        """Muon for matrices of one shape; see `muon_step`."""
        self.muon_step(
            [self.parameters[name] for name in names],
            [self._gradient(name) for name in names],
            [self.moments[name]["momentum"] for name in names],
            rate * self.params.matrix_rate_factor,
            self.params.weight_decay,
            self.dtype,
        )

    def release(self) -> None:
        """Let the gradients go."""
        for parameter in self.parameters.values():
            parameter.grad = None

    def _by_muon(self, name: str) -> bool:
        return self.params.optimizer == "muon" and _is_matrix(name, self.parameters[name])

    def _gradient(self, name: str) -> Tensor:
        gradient = self.parameters[name].grad
        assert gradient is not None
        return gradient

    def _factor(self, name: str) -> float:
        """Of the rate."""
        if name == "wte.weight":
            return self.params.token_embedding_rate_factor
        if _is_matrix(name, self.parameters[name]):
            return self.params.matrix_rate_factor
        return 1.0

    def _decay(self, name: str) -> float:
        if self.parameters[name].ndim == 1:
            return self.params.weight_decay_biases_and_norms
        return self.params.weight_decay


def muon_step(
    matrices: list[Tensor],
    gradients: list[Tensor],
    momenta: list[Tensor],
    rate: Number,
    decay: float,
    dtype: torch.dtype,
) -> None:
    """Momentum, made orthogonal, for matrices of one shape or its transpose (Jordan et al. 2024).

    A step has the root mean square of one of AdamW's, about 0.2, so that it takes its rates and
    decay (Liu et al. 2025). It is torch.optim.Muon with `match_rms_adamw`, except that the matrix
    products are of any type: bfloat16 takes 40 times as long where the hardware lacks it.
    """
    ahead = []
    for matrix, whole, momentum in zip(matrices, gradients, momenta, strict=True):
        gradient = local(whole)
        mean = local(momentum).lerp_(gradient, 1 - MOMENTUM)
        ahead.append(wide(gathered(gradient.lerp(mean, MOMENTUM).to(dtype), matrix)))
    for matrix, update in zip(matrices, orthogonal(torch.stack(ahead)), strict=True):
        if wide(matrix) is not matrix:
            update = update.T
        held, length = local(matrix), 0.2 * math.sqrt(max(matrix.shape))
        held.mul_(1 - rate * decay)
        if isinstance(rate, Tensor):
            held.addcmul_(part(update, matrix).to(held.dtype), rate, value=-length)
        else:
            held.add_(part(update, matrix), alpha=-rate * length)


def _is_matrix(name: str, parameter: Tensor) -> bool:
    """Whether it is a matrix inside a block."""
    return name.startswith("h.") and parameter.ndim == 2


def wide(matrix: Tensor) -> Tensor:
    """A matrix, or its transpose where it has more rows than columns."""
    return matrix.T if matrix.size(0) > matrix.size(1) else matrix


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices with the singular vectors of `matrices`, and singular values of 0.7 to 1.2.

    By the Newton-Schulz iteration of Jordan et al., which is quick rather than exact. Both are
    (matrices, rows, columns), with no more rows than columns.
    """
    a, b, c = QUINTIC
    x = matrices
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x
