from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from conftest import params_with
from dropgpt.model.gpt import GPT
from dropgpt.randomness import seed_dropout
from dropgpt.training.gradients import (
    clip_gradients,
    compiles,
    micro_batches,
    set_gradients,
    shares,
)
from dropgpt.training.optimizers import Optimizers

CPU = torch.device("cpu")
TOKENS = torch.randint(0, 50_257, (4, 33), generator=torch.Generator().manual_seed(0))
BATCH = TOKENS[:, :-1], TOKENS[:, 1:]


def autograd(model: GPT, loss_of: str) -> torch.Tensor:
    """The loss of the logits as anyone would write it, and its gradients."""
    seed_dropout(1, "dropout", 3, range(4), CPU)
    logits, targets = model(BATCH[0]), BATCH[1]
    if loss_of == "final_token":
        logits, targets = logits[:, -1], targets[:, -1]
    loss = F.cross_entropy(logits.flatten(0, -2), targets.flatten())
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("micro_batch_size", [None, 3])
@pytest.mark.parametrize("loss_of", ["all_tokens", "final_token"])
def test_the_gradients_are_those_of_autograd(
    make_gpt: Callable[..., GPT],
    threads: Callable[[int], None],
    count: int,
    micro_batch_size: int | None,
    loss_of: str,
) -> None:
    threads(count)
    ours, plain = (make_gpt(dropout=0.3, block_dropout=0.1).train() for _ in range(2))
    changes: dict[str, Any] = {"loss": loss_of, "micro_batch_size": micro_batch_size}
    loss = set_gradients(
        ours, ours.transformed, BATCH, params_with(train=changes).train, 3, torch.float32
    )
    torch.testing.assert_close(loss, autograd(plain, loss_of))
    for (name, a), b in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-7, msg=name)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("loss_of", ["all_tokens", "final_token"])
def test_no_tensor_of_the_cpu_meets_one_of_the_device(
    make_gpt: Callable[..., GPT],
    threads: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    optimizer: str,
    loss_of: str,
) -> None:
    """A step on the device that has shapes only: torch refuses to mix them."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # it has none there
    threads(1)
    train = params_with(train={"optimizer": optimizer, "loss": loss_of}).train
    model = make_gpt(dropout=0.1).to("meta").train()
    optimizers = Optimizers(model, train, torch.bfloat16)
    loss = set_gradients(model, model.transformed, BATCH, train, 0, torch.bfloat16)
    assert loss.device.type == clip_gradients(model, 1.0).device.type == "meta"
    optimizers.step(0, 1e-3)


def test_a_gpu_compiles_and_a_cpu_does_not_unless_asked_to() -> None:
    def found(device: str, **changes: Any) -> bool:
        return compiles(params_with(train=changes).train, torch.device(device))

    assert found("cuda")
    assert not found("cuda", dropout_schedule="linear_up")  # each step has rates of its own
    assert not found("cuda", compile=False)
    assert not found("cpu")
    assert found("cpu", compile=True)


def test_a_gradient_is_scaled_down_to_the_norm_and_never_up(make_gpt: Callable[..., GPT]) -> None:
    model = make_gpt()
    for largest, expected in ((3.0, 3.0), (30.0, 20.0), (None, 20.0)):
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        model.wpe.weight.grad.view(-1)[:4] = 10.0
        assert clip_gradients(model, largest).item() == pytest.approx(20)
        assert model.wpe.weight.grad.norm().item() == pytest.approx(expected)


def test_the_windows_are_shared_out_evenly(threads: Callable[[int], None]) -> None:
    threads(3)
    assert shares(range(10, 18)) == [range(10, 12), range(12, 15), range(15, 18)]
    assert shares(range(2)) == [range(0, 1), range(1, 2)]


def test_a_cpu_takes_as_many_windows_at_once_as_are_quick(threads: Callable[[int], None]) -> None:
    threads(2)
    train = params_with().train
    assert micro_batches(train, 20, 128, CPU) == [range(0, 16), range(16, 20)]
    assert micro_batches(train, 5, 2048, CPU) == [range(0, 2), range(2, 4), range(4, 5)]
    assert micro_batches(train, 64, 2048, torch.device("cuda")) == [range(64)]
    asked = params_with(train={"micro_batch_size": 3}).train
    assert micro_batches(asked, 7, 128, CPU) == [range(0, 3), range(3, 6), range(6, 7)]
