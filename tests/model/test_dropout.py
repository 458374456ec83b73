from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dropgpt.model.dropout import Dropout, attention, attention_dropping_keys, keep_mask
from dropgpt.randomness import seed_dropout

CPU = torch.device("cpu")


def again(work: Callable[[], Tensor], windows: int = 5) -> Tensor:
    seed_dropout(7, "dropout", 0, range(windows), CPU)
    return work()


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_a_mask_drops_with_its_rate_and_the_scale_makes_up_for_it(rate: float) -> None:
    seed_dropout(7, "dropout", 0, range(1000), CPU)
    keep, scale = keep_mask((1000, 1000), rate)
    assert keep.float().mean().item() == pytest.approx(1 - rate, abs=0.002)
    assert scale == pytest.approx(1 / (1 - rate), rel=2e-5 / (1 - rate))
    columns = keep.float().mean(0)
    assert columns.std().item() == pytest.approx((rate * (1 - rate) / 1000) ** 0.5, rel=0.1)


def test_a_rate_near_one_still_keeps_something() -> None:
    seed_dropout(7, "dropout", 0, range(1000), CPU)
    keep, scale = keep_mask((1000, 1000), 1 - 1e-9)
    assert 0 < keep.sum() < 60
    assert scale == 65536


def test_no_two_masks_are_alike() -> None:
    seed_dropout(7, "dropout", 0, range(3), CPU)
    first, second = (keep_mask((3, 1 << 18), 0.5)[0] for _ in range(2))
    pairs = [(first, second), (first[0], first[1]), (first[0, 1:], first[0, :-1])]
    for a, b in pairs:  # one site and the next, one window and the next, neighbours
        assert (a == b).float().mean().item() == pytest.approx(0.5, abs=0.01)


def test_a_mask_is_that_of_its_windows_alone() -> None:
    """An odd number of elements leaves random bits over, which the next mask must not use."""
    shapes = [(5, 3, 7), (5, 9), (5, 1, 1)]
    seed_dropout(7, "dropout", 0, range(5), CPU)
    whole = [keep_mask(shape, 0.5)[0] for shape in shapes]
    seed_dropout(7, "dropout", 0, range(2, 4), CPU)
    for shape, mask in zip(shapes, whole, strict=True):
        assert torch.equal(keep_mask((2, *shape[1:]), 0.5)[0], mask[2:4])


def test_streams_for_other_windows_are_refused() -> None:
    seed_dropout(7, "dropout", 0, range(2), CPU)
    with pytest.raises(RuntimeError, match="dropout of 3 windows where seed_dropout has begun 2"):
        keep_mask((3, 4), 0.5)


def test_dropout_is_the_plain_one_of_the_same_mask() -> None:
    x = torch.randn(5, 7, 16, requires_grad=True)
    dy = torch.randn(5, 7, 16)
    layer = Dropout(0.3)
    y = again(lambda: layer(x))
    y.backward(dy)
    seed_dropout(7, "dropout", 0, range(5), CPU)
    keep, scale = keep_mask(x.shape, 0.3)
    assert torch.equal(y, x * keep * scale)
    assert torch.equal(x.grad, dy * keep * scale)
    assert layer.eval()(x) is x


def plain(q: Tensor, k: Tensor, v: Tensor, keep: Tensor, scale: float) -> Tensor:
    scores = q @ k.mT / q.shape[-1] ** 0.5
    hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return (scores.masked_fill(hidden, -torch.inf).softmax(-1) * keep * scale) @ v


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)], ids=str
)
@pytest.mark.parametrize("rate", [0.0, 0.2])
def test_attention_and_its_gradients_are_the_plain_ones(
    rate: float, dtype: torch.dtype, tolerance: float
) -> None:
    random = torch.Generator().manual_seed(0)
    # As the model gives them: three views of one tensor.
    qkv = torch.randn(5, 24, 3, 2, 8, generator=random).permute(2, 0, 3, 1, 4)
    dy = torch.randn(5, 2, 24, 8, generator=random)
    ours = [x.to(dtype).requires_grad_() for x in qkv]
    y = again(lambda: attention(*ours, rate, is_causal=True))
    y.backward(dy.to(dtype))
    seed_dropout(7, "dropout", 0, range(5), CPU)
    keep, scale = keep_mask((5, 2, 24, 24), rate)
    exact = [x.detach().double().requires_grad_() for x in ours]
    expected = plain(*exact, keep, scale)
    expected.backward(dy.double())
    pairs = [(y, expected), *((a.grad, b.grad) for a, b in zip(ours, exact, strict=True))]
    for found, wanted in pairs:
        assert (found - wanted).norm() < tolerance * wanted.norm()


def test_attention_without_dropout_and_gradients_is_torchs_own() -> None:
    q, k, v = torch.randn(3, 2, 2, 8, 4)
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert torch.equal(attention(q, k, v, 0.0, is_causal=True), expected)
    keep = torch.ones(2, 2, 8, 8, dtype=torch.bool)
    torch.testing.assert_close(plain(q, k, v, keep, 1.0), expected)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_dropped_keys_are_out_of_sight_and_the_others_share_the_weight(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    q, k = torch.randn(2, 50, 2, 16, 8, device=device)
    values = torch.eye(16, device=device).expand(50, 2, 16, 16)  # what comes out are the weights
    seed_dropout(7, "dropout", 0, range(50), torch.device(device))
    weights = attention_dropping_keys(q, k, values, 0.3)
    assert torch.allclose(weights.sum(-1), torch.ones((), device=device))
    seen = weights > 0
    assert not seen.triu(1).any()
    assert seen.diagonal(dim1=-2, dim2=-1).all()
    before = torch.ones(16, 16, dtype=torch.bool).tril(-1)
    assert seen[..., before].float().mean().item() == pytest.approx(0.7, abs=0.02)
    scores = (q @ k.mT / 8**0.5).masked_fill(~seen, -torch.inf)
    torch.testing.assert_close(weights, scores.softmax(-1))
