import pytest
import torch
import torch.nn.functional as F

from dropgpt.model.loss import CHUNK, TILE, cross_entropy, token_losses


@pytest.mark.parametrize("n", [1, CHUNK, CHUNK + 7])
def test_the_loss_and_its_gradients_are_the_plain_ones(n: int) -> None:
    random = torch.Generator().manual_seed(0)
    features = torch.randn(n, 24, generator=random, dtype=torch.float64)
    head = torch.randn(2 * TILE + 3, 24, generator=random, dtype=torch.float64)
    targets = torch.randint(0, len(head), (n,), generator=random)

    ours = [features.float().requires_grad_(), head.float().requires_grad_()]
    loss = cross_entropy(ours[0], ours[1], targets, torch.float32)
    (3 * loss).backward()

    plain = [features.requires_grad_(), head.requires_grad_()]
    expected = F.cross_entropy(plain[0] @ plain[1].T, targets, reduction="sum")
    (3 * expected).backward()

    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)
    for got, want in zip(ours, plain, strict=True):
        torch.testing.assert_close(got.grad.double(), want.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n", [1, CHUNK + 7])
def test_the_loss_of_each_token_is_the_plain_one(n: int) -> None:
    random = torch.Generator().manual_seed(0)
    features = torch.randn(n, 24, generator=random, dtype=torch.float64)
    head = torch.randn(2 * TILE + 3, 24, generator=random, dtype=torch.float64)
    targets = torch.randint(0, len(head), (n,), generator=random)
    expected = F.cross_entropy(features @ head.T, targets, reduction="none")
    found = token_losses(features.float(), head.float(), targets)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_bfloat16_products_stay_near_the_plain_loss() -> None:
    random = torch.Generator().manual_seed(0)
    features = torch.randn(600, 24, generator=random, requires_grad=True)
    head = torch.randn(2 * TILE + 3, 24, generator=random, requires_grad=True)
    targets = torch.randint(0, len(head), (600,), generator=random)
    loss = cross_entropy(features, head, targets, torch.bfloat16)
    loss.backward()
    got = features.grad.clone(), head.grad.clone()
    features.grad = head.grad = None
    expected = F.cross_entropy(features @ head.T, targets, reduction="sum")
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-3)
    for g, w in zip(got, (features.grad, head.grad), strict=True):
        assert (g - w).norm() < 0.01 * w.norm()


def test_logits_far_beyond_the_range_of_exp() -> None:
    features = torch.tensor([[200.0], [-200.0]], requires_grad=True)
    head = torch.tensor([[1.0], [0.0], [-1.0]], requires_grad=True)
    targets = torch.tensor([0, 0])
    loss = cross_entropy(features, head, targets, torch.float32)
    loss.backward()
    assert loss.item() == pytest.approx(400)
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()
