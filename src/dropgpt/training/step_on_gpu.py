"""A step on a GPU: the whole batch at once, and where it can be, as a CUDA graph.

What a GPU must not do is wait. Windows are sent there for many steps at a time, and nothing is
fetched from it before many steps have been asked for. A small step is over sooner than Python can
ask for its kernels: a CUDA graph keeps them, with all their addresses, and asks for all at once.
So what a graph reads and is not the same in each step stands in tensors that stay in their places.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dropgpt.errors import UserError
from dropgpt.machine import processes
from dropgpt.machine.memory import out_of_memory
from dropgpt.model.gpt import scale_dropout
from dropgpt.model.loss_on_gpu import (
    Softmax,
    add_gradients,
    compiled_softmax,
    softmax_gradient,
)
from dropgpt.model.sharding import is_sharded, local
from dropgpt.randomness import seed_dropout
from dropgpt.training.compiled import Transformed, compiled, compiles
from dropgpt.training.optimizers import muon_step
from dropgpt.training.schedules import dropout_factor, learning_rate
from dropgpt.training.step import Step

AHEAD = 32  # steps whose windows are sent at once
WARM_UP = 2  # passes before a graph is made: what is made only once must be made by then


@dataclass(frozen=True)
class Graphs:
    """A step as CUDA graphs, for one factor of the dropout rates."""

    gradients: torch.cuda.CUDAGraph
    update: torch.cuda.CUDAGraph
    factor: float


class StepOnGPU(Step):
    """See `step.Step`. The masks of a step are those of (seed, step), in a graph or not."""

    unread = 16

    def __post_init__(self) -> None:
        self.device = self.model.device
        self.between = self.parameters_between()
        self.sharded = any(map(is_sharded, self.between))
        compiling = compiles(self.params, self.device) and not self.sharded
        self.transformed: Transformed = self.model.transformed
        self.softmax: Softmax = softmax_gradient
        if compiling:
            self.transformed, self.softmax = compiled(self.model), compiled_softmax()
            self.optimizers.muon_step = torch.compile(muon_step, dynamic=False)
        # Several processes talk to each other within a step; micro-batches have a seed each.
        alone = processes.number() == len(self.micro_batches()) == 1
        self.has_graphs = compiling and alone and self.device.type == "cuda"
        self.graphs: Graphs | None = None
        self.sent = range(0)  # the steps whose windows are there
        self.windows = torch.empty(0)
        size = 2, len(self.batches.own), self.batches.n_ctx
        self.rows = torch.zeros(size, dtype=torch.int64, device=self.device)
        self.rate, self.steps, self.loss, self.norm = torch.zeros(4, device=self.device)

    def gradients(self, step: int) -> tuple[Tensor, Tensor]:
        self._prepare(step)
        if self.graphs:
            self._seed(step, *self.micro_batches())
            self.graphs.gradients.replay()
        else:
            self._set_gradients(step)
        return self.loss.clone(), self.norm.clone()  # the next step writes where they stand

    def update(self, step: int) -> None:
        if self.graphs:
            self.graphs.update.replay()
        else:
            self.optimizers.step(self.steps, self.rate)
            self.optimizers.release()

    def _prepare(self, step: int) -> None:
        """Put what is other in each step where it is read, and see to it that there are graphs."""
        if step not in self.sent:
            self.sent = range(step, min(step + AHEAD, self.params.steps))
            rows = np.stack([self.batches.rows(one) for one in self.sent])
            self.windows = torch.from_numpy(rows.view(np.int16)).to(self.device)
        self.rows.copy_(self.windows[step - self.sent.start]).bitwise_and_(0xFFFF)
        self.rate.fill_(learning_rate(self.params, step))
        self.steps.fill_(step + 1)
        factor = dropout_factor(self.params, step)
        scale_dropout(self.model, factor)
        if self.has_graphs and (self.graphs is None or self.graphs.factor != factor):
            self.graphs = None
            self.graphs = self._made_graphs(step, factor)

    def _made_graphs(self, step: int, factor: float) -> Graphs:
        """Raises UserError where the GPU refuses."""
        states: list[Tensor] = [*self.model.parameters()]
        states += [one for moments in self.optimizers.moments.values() for one in moments.values()]
        before = [state.detach().clone() for state in states]
        for _ in range(WARM_UP):
            self._set_gradients(step)
            self.optimizers.step(self.steps, self.rate)
        for state, value in zip(states, before, strict=True):
            state.detach().copy_(value)
        del before
        self.optimizers.release()
        made = Graphs(torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph(), factor)
        try:
            with torch.cuda.graph(made.gradients):
                self._set_gradients(None)
            with torch.cuda.graph(made.update, pool=made.gradients.pool()):
                self.optimizers.step(self.steps, self.rate)
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            why = " ".join(str(error).split())[:200]
            raise UserError(
                f"train: {self.device} does not take a step as a CUDA graph ({why}): set "
                "train.compile to false"
            ) from error
        return made

    def _seed(self, step: int, windows: range) -> None:
        first = self.batches.own.start
        numbers = range(first + windows.start, first + windows.stop)
        seed_dropout(self.params.seed, "dropout", step, numbers, self.device)

    def _set_gradients(self, step: int | None) -> None:
        """Give each parameter the gradient of the batch's mean loss, clipped; fill loss and norm.

        Without a step the masks go on from wherever the generator is. The two ends of the model
        are done by hand: its token embedding is its head, too.
        """
        model, params = self.model, self.params
        inputs, targets = self.rows
        measured = slice(None) if params.loss == "all_tokens" else slice(-1, None)
        weight = 1 / (params.batch_size * targets[0, measured].numel())
        total = torch.zeros((), device=self.device)
        d_head: Tensor | None = None
        d_positions = torch.zeros_like(model.wpe.weight)
        sums: list[Tensor] = []
        for windows in self.micro_batches():
            rows = slice(windows.start, windows.stop)
            if step is not None:
                self._seed(step, windows)
            with torch.no_grad():
                x = model.embedded(inputs[rows])
            x.requires_grad_()
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                features = self.transformed(x)[:, measured]
            nats, d_features, d_head = add_gradients(
                features.detach().flatten(0, 1),
                model.head,
                targets[rows, measured].flatten(),
                weight,
                self.dtype,
                d_head,
                self.softmax,
            )
            d_features = d_features.view_as(features)
            if self.sharded:  # FSDP2 adds up in .grad, over micro-batches and processes
                torch.autograd.backward(features, d_features)
                assert x.grad is not None
                d_x = x.grad
            else:
                d_x, *found = torch.autograd.grad(
                    features, [x, *self.between], d_features, materialize_grads=True
                )
                if sums:
                    torch._foreach_add_(sums, found)
                else:
                    sums = [*found]
            # As `index_add_` would, in an order that is always the same.
            d_head += torch.ops.aten.embedding_dense_backward(
                d_x, inputs[rows], model.n_vocab, -1, False
            )
            d_positions[: inputs.shape[1]] += d_x.sum(0)
            total += nats
        model.wte.weight.grad, model.wpe.weight.grad = d_head, d_positions
        for parameter, gradient in zip(self.between, sums, strict=not self.sharded):
            parameter.grad = gradient
        loss = total * weight
        whole = [p.grad for p in model.parameters() if p.grad is not None and not is_sharded(p)]
        processes.add_up([loss, *whole])
        self.loss.copy_(loss)
        self.norm.copy_(self._clip())

    def _clip(self) -> Tensor:
        """Scale the gradients down to `max_gradient_norm`; the norm they had, a scalar.

        To ask whether it is above would be to wait for it.
        """
        largest = self.params.max_gradient_norm
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(g for g in gradients if not is_sharded(g))
        if parts := [local(g) for g in gradients if is_sharded(g)]:
            squared = torch.nn.utils.get_total_norm(parts).square()
            processes.add_up([squared])
            norm = (norm.square() + squared).sqrt()
        if largest is not None:
            factor = (largest / (norm + 1e-6)).clamp(max=1)
            torch._foreach_mul_([local(g) for g in gradients], factor)
        return norm
