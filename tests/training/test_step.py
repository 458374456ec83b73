import shutil
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo.exc
import torch.nn.functional as F

import cuda
from conftest import params_with
from dropgpt.errors import UserError
from dropgpt.machine.memory import enough_memory
from dropgpt.model.gpt import GPT
from dropgpt.params import Train
from dropgpt.randomness import seed_dropout
from dropgpt.tokens.batches import Batches
from dropgpt.tokens.vocabulary import N_VOCAB
from dropgpt.training.begin import windows_at_once
from dropgpt.training.compiled import able_to_compile, compiled, compiles
from dropgpt.training.optimizers import Optimizers
from dropgpt.training.step import Step
from dropgpt.training.step_on_cpu import StepOnCPU, clip_gradients, shares
from dropgpt.training.step_on_gpu import AHEAD, StepOnGPU

CPU = torch.device("cpu")
TOKENS = np.random.default_rng(0).integers(0, N_VOCAB, 300).astype(np.uint16)
KINDS = pytest.mark.parametrize("kind", [StepOnCPU, StepOnGPU])


def begun(
    kind: type[Any],
    model: GPT,
    dtype: torch.dtype = torch.float32,
    **changes: Any,
) -> Step:
    """A training of `model` on batches of 4 windows."""
    params = params_with(train={"steps": 100} | changes).train
    batches = Batches(TOKENS, model.config.n_ctx, N_VOCAB, params, range(params.batch_size))
    at_once = windows_at_once(params, model.config.n_ctx, CPU)
    return kind(model, Optimizers(model, params, dtype), params, batches, dtype, at_once)


def autograd(model: GPT, params: Train, step: int) -> torch.Tensor:
    """The loss of the logits as anyone would write it, and its gradients."""
    inputs, targets = Batches(TOKENS, 32, N_VOCAB, params, range(4)).windows(step)
    seed_dropout(1, "dropout", step, range(4), CPU)
    logits = model(inputs)
    if params.loss == "final_token":
        logits, targets = logits[:, -1], targets[:, -1]
    loss = F.cross_entropy(logits.flatten(0, -2), targets.flatten())
    loss.backward()
    return loss.detach()


@KINDS
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("micro_batch_size", [None, 3])
@pytest.mark.parametrize("loss_of", ["all_tokens", "final_token"])
def test_the_gradients_are_those_of_autograd(
    make_gpt: Callable[..., GPT],
    threads: Callable[[int], None],
    kind: type[Any],
    count: int,
    micro_batch_size: int | None,
    loss_of: str,
) -> None:
    threads(count)
    ours, plain = (make_gpt(dropout=0.3, block_dropout=0.1).train() for _ in range(2))
    changes: dict[str, Any] = {
        "loss": loss_of,
        "token_replacement": 0.3,
        "micro_batch_size": micro_batch_size,
        "max_gradient_norm": None,
    }
    loss, norm = begun(kind, ours, **changes).gradients(3)
    torch.testing.assert_close(loss, autograd(plain, params_with(train=changes).train, 3))
    for (name, a), b in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-7, msg=name)
    torch.testing.assert_close(
        norm, torch.nn.utils.get_total_norm([p.grad for p in plain.parameters()])
    )


def trained(work: Step, model: GPT, first: int = 0, last: int = 6) -> list[torch.Tensor]:
    """The losses and norms of the steps from `first` on, and the weights after the last one."""
    found = []
    for step in range(first, last):
        found += work.gradients(step)
        work.update(step)
    return found + [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_kinds_of_step_train_alike(
    make_gpt: Callable[..., GPT],
    threads: Callable[[int], None],
    optimizer: str,
    dtype: torch.dtype,
) -> None:
    """A GPU's arithmetic, on tensors of the CPU; with the CPU's masks."""
    threads(1)
    models = [make_gpt(dropout=0.2).train() for _ in range(2)]
    on_cpu, on_gpu = (
        trained(begun(kind, model, dtype, optimizer=optimizer, learning_rate=1e-3), model)
        for kind, model in zip((StepOnCPU, StepOnGPU), models, strict=True)
    )
    near = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.01, "atol": 0.01}
    for a, b in zip(on_cpu, on_gpu, strict=True):
        torch.testing.assert_close(a, b, **near)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("c++"), reason="torch.compile needs a compiler")
def test_a_compiled_step_of_a_gpu_trains_alike(
    make_gpt: Callable[..., GPT],
    threads: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """All that is compiled there, by the compiler for a CPU."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    threads(1)
    models = [make_gpt(dropout=0.2).train() for _ in range(2)]
    plain, found = (
        trained(begun(StepOnGPU, model, compile=compile_, learning_rate=1e-3), model)
        for model, compile_ in zip(models, (False, True), strict=True)
    )
    for a, b in zip(plain, found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_the_blocks_are_compiled_once_and_not_once_each(
    make_gpt: Callable[..., GPT], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond eight pieces of code for one function, torch.compile gives up without a word."""
    found = []

    def backend(graph: Any, inputs: Any) -> Any:
        found.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    model = make_gpt(n_layer=12, dropout=0.0).train()
    x = torch.randn(2, 8, model.config.n_embd, requires_grad=True)
    torch.testing.assert_close(compiled(model)(x), model.transformed(x))
    assert len(found) == 1


SCHEDULES: list[dict[str, Any]] = [
    {},
    {"optimizer": "adamw", "loss": "final_token", "token_replacement": 0.3},
    {"dropout_schedule": "late", "dropout_switch_step": 2},
]


@pytest.mark.parametrize("changes", SCHEDULES, ids=str)
def test_a_graph_does_what_the_step_does(
    make_gpt: Callable[..., GPT],
    threads: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
) -> None:
    """Bit for bit: all that is other in each step, such as masks and rates, reaches the graph.

    Goes on in the middle, too, as after a stop.
    """
    threads(1)
    cuda.stand_in_for_graphs(monkeypatch)
    cuda.draw_masks_as_a_gpu(monkeypatch)
    plain, graphed, resumed = (make_gpt(dropout=0.3).train() for _ in range(3))
    works = [begun(StepOnGPU, model, **changes) for model in (plain, graphed, resumed)]
    for work in works[1:]:
        work.has_graphs = True  # type: ignore[attr-defined]
    expected = trained(works[0], plain)
    found = trained(works[1], graphed)
    trained(works[2], resumed, 0, 3)
    works[2].graphs = None  # type: ignore[attr-defined]
    found_after_stop = trained(works[2], resumed, 3)
    assert all(map(torch.equal, expected, found))
    assert all(map(torch.equal, expected[6:], found_after_stop))
    assert len({float(loss) for loss in expected[:12:2]}) == 6  # no two steps alike


def test_a_gpu_that_refuses_a_graph_says_so(
    make_gpt: Callable[..., GPT], threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads(1)
    cuda.stand_in_for_graphs(monkeypatch)
    waits = StepOnGPU._clip
    monkeypatch.setattr(StepOnGPU, "_clip", lambda self: torch.tensor(waits(self).item()))
    work = begun(StepOnGPU, make_gpt(dropout=0.0).train())
    work.has_graphs = True  # type: ignore[attr-defined]
    with pytest.raises(
        UserError, match=r"does not take a step as a CUDA graph .*set train\.compile"
    ):
        work.gradients(0)


def test_a_gpu_without_memory_for_a_graph_says_that(
    make_gpt: Callable[..., GPT], threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads(1)
    cuda.stand_in_for_graphs(monkeypatch)
    work = begun(StepOnGPU, make_gpt(dropout=0.0).train())
    work.has_graphs = True  # type: ignore[attr-defined]

    def full(step: int | None) -> None:
        if step is None:  # while a graph is made
            raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(work, "_set_gradients", full)
    monkeypatch.setattr(work.optimizers, "step", lambda *_: None)
    with pytest.raises(UserError, match="full: out of memory; less"), enough_memory("full", "less"):
        work.gradients(0)


def test_windows_sent_ahead_are_those_of_each_step(make_gpt: Callable[..., GPT]) -> None:
    work: Any = begun(StepOnGPU, make_gpt(), token_replacement=0.3)
    for step in (0, 1, AHEAD, AHEAD - 1, 2 * AHEAD + 5, 99):
        work._prepare(step)
        assert all(map(torch.equal, work.rows, work.batches.windows(step)))


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("loss_of", ["all_tokens", "final_token"])
def test_no_tensor_of_the_cpu_meets_one_of_the_device(
    make_gpt: Callable[..., GPT],
    threads: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    optimizer: str,
    loss_of: str,
) -> None:
    """A step on the device that has shapes only: torch refuses to mix them, and to wait for one."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # it has none there
    monkeypatch.setattr(torch, "_fused_adamw_", of_one_device)  # nor this with a tensor as rate
    threads(1)
    model = make_gpt(dropout=0.1).to("meta").train()
    work = begun(StepOnGPU, model, torch.bfloat16, optimizer=optimizer, loss=loss_of)
    for step in range(2):
        loss, norm = work.gradients(step)
        assert loss.device.type == norm.device.type == "meta"
        work.update(step)
    assert all(p.grad is None for p in model.parameters())


def of_one_device(*lists: list[torch.Tensor], lr: torch.Tensor, **_: Any) -> None:
    assert {tensor.device.type for tensors in (*lists, [lr]) for tensor in tensors} == {"meta"}


@pytest.mark.parametrize(("capability", "compiled"), [((6, 1), False), ((7, 0), True)])
def test_a_gpu_that_triton_does_not_know_does_not_compile(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], compiled: bool
) -> None:
    cuda.stand_in(monkeypatch, capability=capability)
    assert compiles(params_with().train, torch.device("cuda:0")) == compiled


def test_a_full_gpu_is_not_told_as_a_compiler_that_is_missing() -> None:
    """torch wraps whatever fails while it compiles, as the loading of a kernel."""
    error = torch._dynamo.exc.TorchDynamoException("Triton Error [CUDA]: out of memory")
    with (
        pytest.raises(UserError, match="train: out of memory; less"),
        enough_memory("train", "less"),
        able_to_compile(),
    ):
        raise error


def test_a_gpu_compiles_and_a_cpu_does_not_unless_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda.stand_in(monkeypatch)

    def found(device: str, **changes: Any) -> bool:
        return compiles(params_with(train=changes).train, torch.device(device))

    assert found("cuda")
    assert not found("cuda", dropout_schedule="linear_up")  # each step has rates of its own
    assert not found("cuda", compile=False)
    assert not found("cpu")
    assert found("cpu", compile=True)


def test_a_gradient_is_scaled_down_to_the_norm_and_never_up(make_gpt: Callable[..., GPT]) -> None:
    model = make_gpt()

    def on_gpu(largest: float | None) -> torch.Tensor:
        work: Any = begun(StepOnGPU, model, max_gradient_norm=largest)
        return work._clip()

    for clip in (lambda largest: clip_gradients(model, largest), on_gpu):
        for largest, expected in ((3.0, 3.0), (30.0, 20.0), (None, 20.0)):
            for parameter in model.parameters():
                parameter.grad = torch.zeros_like(parameter)
            model.wpe.weight.grad.view(-1)[:4] = 10.0
            assert clip(largest).item() == pytest.approx(20)
            assert model.wpe.weight.grad.norm().item() == pytest.approx(expected)


def test_the_windows_are_shared_out_evenly(threads: Callable[[int], None]) -> None:
    threads(3)
    assert shares(range(10, 18)) == [range(10, 12), range(12, 15), range(15, 18)]
    assert shares(range(2)) == [range(0, 1), range(1, 2)]


def test_a_cpu_takes_as_many_windows_at_once_as_are_quick(threads: Callable[[int], None]) -> None:
    def found(device: str, n_ctx: int, **changes: Any) -> int:
        train = params_with(train={"batch_size": 20} | changes).train
        return windows_at_once(train, n_ctx, torch.device(device))

    threads(2)
    assert found("cpu", 128) == 16
    assert found("cpu", 2048) == 2
    assert found("cuda", 2048) == 20
    assert found("cpu", 128, micro_batch_size=3) == found("cuda", 128, micro_batch_size=3) == 3
    assert found("cpu", 128, batch_size=5) == 5
