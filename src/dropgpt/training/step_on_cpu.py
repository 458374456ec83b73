"""A step on a CPU: its windows are shared out to the threads, a cache full at a time."""

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from dropgpt.machine import processes
from dropgpt.machine.threads import in_threads, number
from dropgpt.model.gpt import GPT, scale_dropout
from dropgpt.model.loss_on_cpu import add_gradients
from dropgpt.randomness import seed_dropout
from dropgpt.training.compiled import compiled, compiles
from dropgpt.training.optimizers import Part
from dropgpt.training.schedules import dropout_factor, learning_rate
from dropgpt.training.step import Step

CPU = torch.device("cpu")
TOKENS = 1024  # of a thread at once: more fall out of its cache, fewer wait on Python
LARGE = 1 << 16  # elements of a parameter


class StepOnCPU(Step):
    """See `step.Step`."""

    unread = 1  # nobody waits here

    def __post_init__(self) -> None:
        compiling = compiles(self.params, CPU)
        self.transformed = compiled(self.model) if compiling else self.model.transformed
        self.between = self.parameters_between()

    def gradients(self, step: int) -> tuple[Tensor, Tensor]:
        scale_dropout(self.model, dropout_factor(self.params, step))
        loss = self._set_gradients(step)
        return loss, clip_gradients(self.model, self.params.max_gradient_norm)

    def update(self, step: int) -> None:
        rate = learning_rate(self.params, step)
        steps = torch.tensor(step + 1.0)
        moves: list[Callable[[], None]] = []
        adamw, muon = self.optimizers.adamw, self.optimizers.muon
        together: defaultdict[tuple[float, float], list[Part]] = defaultdict(list)
        for group in self.optimizers.adamw_groups:
            rates = rate * group.factor, group.decay
            for whole in map(self.optimizers.held, group.names):
                if number() > 1 and whole[0].numel() > LARGE:
                    # An element moves by itself: a large parameter is shared out to the threads.
                    parts = zip(*(tensor.chunk(number()) for tensor in whole), strict=True)
                    moves += [partial(adamw, [part], steps, *rates) for part in parts]
                else:
                    together[rates].append(whole)
        moves += [partial(adamw, parts, steps, *rates) for rates, parts in together.items()]
        moves += [partial(muon, names, rate) for names in self.optimizers.muon_groups]
        list(in_threads(lambda move: move(), moves))
        self.optimizers.release()

    def _set_gradients(self, step: int) -> Tensor:
        """Give each parameter the gradient of the batch's mean loss, which is returned.

        The two ends of the model are done by hand: its token embedding is its head, too.
        """
        model, params, first = self.model, self.params, self.batches.own.start
        inputs, targets = self.batches.windows(step)
        measured = slice(None) if params.loss == "all_tokens" else slice(-1, None)
        weight = 1 / (params.batch_size * targets[0, measured].numel())
        total = torch.zeros(())
        d_head: Tensor | None = None
        d_positions = torch.zeros_like(model.wpe.weight)
        sums: list[list[Tensor]] = [[] for _ in range(number())]

        def forward(windows: range) -> tuple[Tensor, Tensor]:
            """What the blocks are given, and the features that are measured."""
            with torch.no_grad():
                x = model.embedded(inputs[windows.start : windows.stop])
            x.requires_grad_()
            numbers = range(first + windows.start, first + windows.stop)
            seed_dropout(params.seed, "dropout", step, numbers, CPU)
            with torch.autocast("cpu", self.dtype, enabled=self.dtype != torch.float32):
                return x, self.transformed(x)[:, measured]

        def backward(thread: int) -> Tensor:
            """The gradient by what the blocks were given; those by the parameters are added up."""
            x, features = passed[thread]
            d_x, *found = torch.autograd.grad(
                features, [x, *self.between], d_features[thread], materialize_grads=True
            )
            if not sums[thread]:
                sums[thread] = found
            else:
                torch._foreach_add_(sums[thread], found)
            return d_x

        for windows in self.micro_batches():
            passed = list(in_threads(forward, shares(windows)))
            features = torch.cat([features.detach() for _, features in passed])
            rows = slice(windows.start, windows.stop)
            nats, d_rows, d_head = add_gradients(
                features.flatten(0, 1),
                model.head,
                targets[rows, measured].flatten(),
                weight,
                self.dtype,
                d_head,
            )
            d_features = d_rows.view_as(features).split([len(x) for x, _ in passed])
            d_x = torch.cat(list(in_threads(backward, range(len(passed)))))
            d_head.index_add_(0, inputs[rows].flatten(), d_x.flatten(0, 1))
            d_positions[: inputs.shape[1]] += d_x.sum(0)
            total += nats
        model.wte.weight.grad, model.wpe.weight.grad = d_head, d_positions
        for parameter, *parts in zip(self.between, *filter(None, sums), strict=True):
            parameter.grad = sum(parts[1:], start=parts[0])
        loss = total * weight
        processes.add_up([loss, *(p.grad for p in model.parameters() if p.grad is not None)])
        return loss


def clip_gradients(model: GPT, largest: float | None) -> Tensor:
    """Scale the gradients down to the norm `largest`, if it is above; the norm it was, a scalar."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if largest is not None and norm > largest:
        torch._foreach_mul_(gradients, (largest / (norm + 1e-6)).clamp(max=1))
    return norm


def quick(n_ctx: int) -> int:
    """How many windows are best worked on together."""
    return max(1, TOKENS // n_ctx) * number()


def shares(windows: range) -> list[range]:
    """`windows` in as many parts as there are threads, as even as can be; none is empty."""
    ends = [len(windows) * thread // number() for thread in range(number() + 1)]
    parts = [windows[a:b] for a, b in pairwise(ends)]
    return [part for part in parts if part]
