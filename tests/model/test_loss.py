import shutil
from collections.abc import Callable
from functools import partial
from types import ModuleType, SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from dropgpt.model import loss_on_cpu, loss_on_gpu
from dropgpt.model.loss_on_cpu import CHUNK, MEASURED, TILE


@pytest.fixture(params=["on_cpu", "on_gpu", pytest.param("compiled", marks=pytest.mark.slow)])
def of_device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The loss as a CPU and as a GPU computes it, both on tensors of the CPU."""
    if request.param == "on_cpu":
        return loss_on_cpu
    monkeypatch.setattr(loss_on_gpu, "ROWS", CHUNK)  # so that there are two pieces here, too
    if request.param == "on_gpu":
        return loss_on_gpu
    if not shutil.which("c++"):
        pytest.skip("torch.compile needs a compiler")
    compiled = partial(loss_on_gpu.add_gradients, softmax=loss_on_gpu.compiled_softmax())
    return SimpleNamespace(add_gradients=compiled, token_losses=loss_on_gpu.token_losses)


def inputs(n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features, a head and targets, in float64."""
    random = torch.Generator().manual_seed(0)
    features = torch.randn(n, 24, generator=random, dtype=torch.float64)
    head = torch.randn(2 * TILE + 3, 24, generator=random, dtype=torch.float64)
    return features, head, torch.randint(0, len(head), (n,), generator=random)


Found = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # the loss, and its two gradients


def ours(
    of_device: ModuleType,
    features: torch.Tensor,
    head: torch.Tensor,
    targets: torch.Tensor,
    dtype: torch.dtype,
) -> Found:
    """Of three times the sum."""
    found, *gradients = of_device.add_gradients(features.float(), head.float(), targets, 3, dtype)
    return 3 * found, *gradients


def plain(features: torch.Tensor, head: torch.Tensor, targets: torch.Tensor) -> Found:
    features, head = features.clone().requires_grad_(), head.clone().requires_grad_()
    loss = 3 * F.cross_entropy(features @ head.T, targets, reduction="sum")
    return loss.detach(), *torch.autograd.grad(loss, [features, head])


@pytest.mark.parametrize("n", [1, CHUNK, CHUNK + 7])
def test_the_loss_and_its_gradients_are_the_plain_ones(of_device: ModuleType, n: int) -> None:
    given = inputs(n)
    found, expected = ours(of_device, *given, torch.float32), plain(*given)
    torch.testing.assert_close(found[0].double(), expected[0], rtol=1e-5, atol=0)
    for got, want in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-4)


def test_the_gradient_by_the_head_is_added_to_what_there_is(of_device: ModuleType) -> None:
    features, head, targets = (x.float() if x.is_floating_point() else x for x in inputs(50))
    found = of_device.add_gradients(features, head, targets, 1, torch.float32)[2]
    there = torch.ones_like(head)
    added = of_device.add_gradients(features, head, targets, 1, torch.float32, there)[2]
    assert added is there
    torch.testing.assert_close(added, 1 + found)


def test_the_threads_do_not_change_a_bit(threads: Callable[[int], None]) -> None:
    given = inputs(50)
    for dtype in (torch.float32, torch.bfloat16):
        threads(1)
        alone = ours(loss_on_cpu, *given, dtype)
        threads(3)
        for a, b in zip(alone, ours(loss_on_cpu, *given, dtype), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("n", [1, MEASURED + 7, CHUNK + 7])
def test_the_loss_of_each_token_is_the_plain_one(of_device: ModuleType, n: int) -> None:
    features, head, targets = inputs(n)
    expected = F.cross_entropy(features @ head.T, targets, reduction="none")
    found = of_device.token_losses(features.float(), head.float(), targets)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_bfloat16_products_stay_near_the_plain_loss(of_device: ModuleType) -> None:
    given = inputs(600)
    found, expected = ours(of_device, *given, torch.bfloat16), plain(*given)
    assert found[0].item() == pytest.approx(expected[0].item(), rel=1e-3)
    for got, want in zip(found[1:], expected[1:], strict=True):
        assert (got - want).norm() < 0.01 * want.norm()


def test_the_loss_of_a_sure_guess_is_near_zero_in_bfloat16(of_device: ModuleType) -> None:
    """Though its logits, of 288 bits, are only known to half a bit there."""
    features, head, targets = inputs(600)
    head /= head.norm(dim=1, keepdim=True)
    features = 200 * head[targets]
    loss, d_features, _ = ours(of_device, features, head, targets, torch.bfloat16)
    assert abs(loss.item()) / (3 * len(features)) < 1e-3
    assert d_features.abs().max() < 1e-3 * features.abs().max()


def check_far_beyond_exp(of_device: ModuleType, device: str, dtype: torch.dtype) -> None:
    features = torch.tensor([[200.0], [-200.0]], device=device)
    head = torch.tensor([[1.0], [0.0], [-1.0]], device=device)
    targets = torch.tensor([0, 0], device=device)
    total, d_features, d_head = of_device.add_gradients(features, head, targets, 1, dtype)
    assert total.item() == pytest.approx(400, rel=2**-7)
    assert d_features[:, 0].tolist() == pytest.approx([0, -2], abs=1e-6)
    assert d_head[:, 0].tolist() == pytest.approx([200, 0, -200], rel=2**-7)
    found = of_device.token_losses(features, head, targets)
    assert found.tolist() == pytest.approx([0, 400], abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_far_beyond_the_range_of_exp(of_device: ModuleType, dtype: torch.dtype) -> None:
    check_far_beyond_exp(of_device, "cpu", dtype)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_far_beyond_the_range_of_exp_on_a_gpu(dtype: torch.dtype) -> None:
    check_far_beyond_exp(loss_on_gpu, "cuda", dtype)
