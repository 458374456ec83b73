from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from dropgpt.model.loss import CHUNK, TILE, add_gradients, token_losses


def inputs(n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features, a head and targets, in float64."""
    random = torch.Generator().manual_seed(0)
    features = torch.randn(n, 24, generator=random, dtype=torch.float64)
    head = torch.randn(2 * TILE + 3, 24, generator=random, dtype=torch.float64)
    return features, head, torch.randint(0, len(head), (n,), generator=random)


Found = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # the loss, and its two gradients


def ours(
    features: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, dtype: torch.dtype
) -> Found:
    """Of three times the sum."""
    loss, *gradients = add_gradients(features.float(), head.float(), targets, 3, dtype)
    return 3 * loss, *gradients


def plain(features: torch.Tensor, head: torch.Tensor, targets: torch.Tensor) -> Found:
    features, head = features.clone().requires_grad_(), head.clone().requires_grad_()
    loss = 3 * F.cross_entropy(features @ head.T, targets, reduction="sum")
    return loss.detach(), *torch.autograd.grad(loss, [features, head])


@pytest.mark.parametrize("n", [1, CHUNK, CHUNK + 7])
def test_the_loss_and_its_gradients_are_the_plain_ones(n: int) -> None:
    given = inputs(n)
    found, expected = ours(*given, torch.float32), plain(*given)
    torch.testing.assert_close(found[0].double(), expected[0], rtol=1e-5, atol=0)
    for got, want in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-4)


def test_the_gradient_by_the_head_is_added_to_what_there_is() -> None:
    features, head, targets = (x.float() if x.is_floating_point() else x for x in inputs(50))
    found = add_gradients(features, head, targets, 1, torch.float32)[2]
    there = torch.ones_like(head)
    added = add_gradients(features, head, targets, 1, torch.float32, there)[2]
    assert added is there
    torch.testing.assert_close(added, 1 + found)


def test_the_threads_do_not_change_a_bit(threads: Callable[[int], None]) -> None:
    given = inputs(50)
    for dtype in (torch.float32, torch.bfloat16):
        threads(1)
        alone = ours(*given, dtype)
        threads(3)
        for a, b in zip(alone, ours(*given, dtype), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("n", [1, CHUNK + 7])
def test_the_loss_of_each_token_is_the_plain_one(n: int) -> None:
    features, head, targets = inputs(n)
    expected = F.cross_entropy(features @ head.T, targets, reduction="none")
    found = token_losses(features.float(), head.float(), targets)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_bfloat16_products_stay_near_the_plain_loss() -> None:
    given = inputs(600)
    found, expected = ours(*given, torch.bfloat16), plain(*given)
    assert found[0].item() == pytest.approx(expected[0].item(), rel=1e-3)
    for got, want in zip(found[1:], expected[1:], strict=True):
        assert (got - want).norm() < 0.01 * want.norm()


def test_the_loss_of_a_sure_guess_is_near_zero_in_bfloat16() -> None:
    """Though its logits, of 288 bits, are only known to half a bit there."""
    features, head, targets = inputs(600)
    head /= head.norm(dim=1, keepdim=True)
    features = 200 * head[targets]
    loss, d_features, _ = ours(features, head, targets, torch.bfloat16)
    assert abs(loss.item()) / (3 * len(features)) < 1e-3
    assert d_features.abs().max() < 1e-3 * features.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_far_beyond_the_range_of_exp(dtype: torch.dtype) -> None:
    features = torch.tensor([[200.0], [-200.0]])
    head = torch.tensor([[1.0], [0.0], [-1.0]])
    targets = torch.tensor([0, 0])
    loss, d_features, d_head = add_gradients(features, head, targets, 1, dtype)
    assert loss.item() == pytest.approx(400, rel=2**-7)
    assert d_features[:, 0].tolist() == pytest.approx([0, -2], abs=1e-6)
    assert d_head[:, 0].tolist() == pytest.approx([200, 0, -200], rel=2**-7)
    found = token_losses(features, head, targets)
    assert found.tolist() == pytest.approx([0, 400], abs=1e-3)
