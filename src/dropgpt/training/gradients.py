"""A batch's loss and its gradients, its windows shared out to the threads of a CPU."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from dropgpt.machine import processes
from dropgpt.machine.threads import in_threads, number, pieces
from dropgpt.model.gpt import GPT
from dropgpt.model.loss import add_gradients
from dropgpt.model.sharding import EMBEDDINGS, is_sharded, local
from dropgpt.params import Train
from dropgpt.randomness import seed_dropout

TOKENS = 1024  # of a thread at once on a CPU: more fall out of its cache, fewer wait on Python


def set_gradients(
    model: GPT,
    transformed: Callable[[Tensor], Tensor],
    batch: tuple[Tensor, Tensor],
    params: Train,
    step: int,
    dtype: torch.dtype,
    first: int = 0,
) -> Tensor:
    """Give each parameter the gradient of the batch's mean loss, which is returned in nats.

    `transformed` is the model's own or the same compiled; `batch` is inputs and targets,
    (windows, n_ctx) int64 each: all windows of the batch, or a process's share from window `first`
    on, and all processes add up what they find. The two ends of the model are done by hand: its
    token embedding is its head, too.
    """
    device = model.wte.weight.device
    inputs, targets = (_sent(part, device) for part in batch)
    measured = slice(None) if params.loss == "all_tokens" else slice(-1, None)
    weight = 1 / (params.batch_size * targets[0, measured].numel())
    parameters = [p for name, p in model.named_parameters() if name not in EMBEDDINGS]
    sharded = any(map(is_sharded, parameters))
    total = torch.zeros((), device=device)
    d_head: Tensor | None = None
    d_positions = torch.zeros_like(model.wpe.weight)
    sums: list[list[Tensor]] = [[] for _ in range(number())]

    def forward(windows: range) -> tuple[Tensor, Tensor]:
        """What the blocks are given, and the features that are measured."""
        with torch.no_grad():
            x = model.embedded(inputs[windows.start : windows.stop])
        x.requires_grad_()
        numbers = range(first + windows.start, first + windows.stop)
        seed_dropout(params.seed, "dropout", step, numbers, device)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return x, transformed(x)[:, measured]

    def backward(thread: int) -> Tensor:
        """The gradient by what the blocks were given; those by the parameters are added up."""
        x, features = passed[thread]
        if sharded:  # FSDP2 adds up what is left in .grad, over micro-batches and processes
            torch.autograd.backward(features, d_features[thread])
            assert x.grad is not None
            return x.grad
        d_x, *found = torch.autograd.grad(
            features, [x, *parameters], d_features[thread], materialize_grads=True
        )
        if not sums[thread]:
            sums[thread] = found
        else:
            torch._foreach_add_(sums[thread], found)
        return d_x

    for windows in micro_batches(params, len(inputs), inputs.shape[1], device):
        passed = list(in_threads(forward, shares(windows)))
        features = torch.cat([features.detach() for _, features in passed])
        rows = slice(windows.start, windows.stop)
        nats, d_rows, d_head = add_gradients(
            features.flatten(0, 1),
            model.head,
            targets[rows, measured].flatten(),
            weight,
            dtype,
            d_head,
        )
        d_features = d_rows.view_as(features).split([len(x) for x, _ in passed])
        d_x = torch.cat(list(in_threads(backward, range(len(passed)))))
        d_head.index_add_(0, inputs[rows].flatten(), d_x.flatten(0, 1))
        d_positions[: inputs.shape[1]] += d_x.sum(0)
        total += nats
    model.wte.weight.grad, model.wpe.weight.grad = d_head, d_positions
    if not sharded:
        for parameter, *parts in zip(parameters, *filter(None, sums), strict=True):
            parameter.grad = sum(parts[1:], start=parts[0])
    loss = total * weight
    gradients = [p.grad for p in model.parameters() if p.grad is not None and not is_sharded(p)]
    processes.add_up([loss, *gradients])
    return loss


def compiles(params: Train, device: torch.device) -> bool:
    """Whether torch.compile is to make fewer and larger kernels of what is between the ends."""
    if params.compile == "auto":
        return device.type == "cuda" and not params.dropout_schedule.startswith("linear")
    return params.compile


def _sent(part: Tensor, device: torch.device) -> Tensor:
    """To a GPU by way of pinned memory, so that nobody waits for its arrival."""
    if device.type == "cuda":
        part = part.pin_memory()
    return part.to(device, non_blocking=True)


def clip_gradients(model: GPT, largest: float | None) -> Tensor:
    """Scale the gradients down to the norm `largest`, if it is above; the norm it was, a scalar."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(g for g in gradients if not is_sharded(g))
    if parts := [local(g) for g in gradients if is_sharded(g)]:
        squared = torch.nn.utils.get_total_norm(parts).square()
        processes.add_up([squared])
        norm = (norm.square() + squared).sqrt()
    # To ask a GPU whether it is above would be to wait for it.
    if largest is not None and (norm.device.type != "cpu" or norm > largest):
        factor = (largest / (norm + 1e-6)).clamp(max=1)
        torch._foreach_mul_([local(g) for g in gradients], factor)
    return norm


def micro_batches(params: Train, batch_size: int, n_ctx: int, device: torch.device) -> list[range]:
    """The windows that are worked on together: `micro_batch_size`, or what is quick here."""
    size = params.micro_batch_size or batch_size
    if params.micro_batch_size is None and device.type == "cpu":
        size = max(1, TOKENS // n_ctx) * number()
    return pieces(batch_size, size)


def shares(windows: range) -> list[range]:
    """`windows` in as many parts as there are threads, as even as can be; none is empty."""
    ends = [len(windows) * thread // number() for thread in range(number() + 1)]
    parts = [windows[a:b] for a, b in pairwise(ends)]
    return [part for part in parts if part]
