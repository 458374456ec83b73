from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dropgpt.model import dropout
from dropgpt.model.dropout import BLOCK, Dropout, attention, attention_dropping_keys, keep_mask


def again(work: Callable[[], Tensor]) -> Tensor:
    torch.manual_seed(7)
    return work()


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_a_mask_drops_with_its_rate_and_the_scale_makes_up_for_it(rate: float) -> None:
    keep, scale = keep_mask((1000, 1000), rate)
    assert keep.float().mean().item() == pytest.approx(1 - rate, abs=0.002)
    assert scale == pytest.approx(1 / (1 - rate), rel=2e-5 / (1 - rate))
    columns = keep.float().mean(0)
    assert columns.std().item() == pytest.approx((rate * (1 - rate) / 1000) ** 0.5, rel=0.1)


def test_a_rate_near_one_still_keeps_something() -> None:
    keep, scale = keep_mask((1000, 1000), 1 - 1e-9)
    assert 0 < keep.sum() < 60
    assert scale == 65536


def test_a_mask_is_a_function_of_torchs_seed_and_not_of_the_threads() -> None:
    shape = (3, BLOCK - 1)
    threads = torch.get_num_threads()
    found = again(lambda: keep_mask(shape, 0.5)[0])
    torch.set_num_threads(threads + 1)
    other = again(lambda: keep_mask(shape, 0.5)[0])
    torch.set_num_threads(threads)
    assert torch.equal(found, other)
    assert not torch.equal(found, keep_mask(shape, 0.5)[0])
    parts = [*found.flatten().split(BLOCK)[:2], found[0, 1:]]
    for a, b in ((0, 1), (0, 2)):  # no two blocks, and no neighbours, are alike
        n = min(len(parts[a]), len(parts[b]))
        assert (parts[a][:n] == parts[b][:n]).float().mean().item() == pytest.approx(0.5, abs=0.01)


def test_dropout_is_the_plain_one_of_the_same_mask() -> None:
    x = torch.randn(5, 7, 16, requires_grad=True)
    dy = torch.randn(5, 7, 16)
    layer = Dropout(0.3)
    y = again(lambda: layer(x))
    y.backward(dy)
    torch.manual_seed(7)
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
@pytest.mark.parametrize(("scores", "queries"), [(1, 7), (3 * 24 * 8, 8), (1 << 19, 64)])
def test_attention_with_dropout_and_its_gradients_are_the_plain_ones(
    monkeypatch: pytest.MonkeyPatch,
    scores: int,
    queries: int,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    monkeypatch.setattr(dropout, "SCORES", scores)
    monkeypatch.setattr(dropout, "QUERIES", queries)
    random = torch.Generator().manual_seed(0)
    # As the model gives them: three views of one tensor.
    qkv = torch.randn(5, 24, 3, 2, 8, generator=random).permute(2, 0, 3, 1, 4)
    dy = torch.randn(5, 2, 24, 8, generator=random)
    ours = [x.to(dtype).requires_grad_() for x in qkv]
    y = again(lambda: attention(*ours, 0.2, is_causal=True))
    y.backward(dy.to(dtype))
    torch.manual_seed(7)
    keep, scale = keep_mask((5, 2, 24, 24), 0.2)
    exact = [x.detach().double().requires_grad_() for x in ours]
    expected = plain(*exact, keep, scale)
    expected.backward(dy.double())
    pairs = [(y, expected), *((a.grad, b.grad) for a, b in zip(ours, exact, strict=True))]
    for found, wanted in pairs:
        assert (found - wanted).norm() < tolerance * wanted.norm()


def test_attention_without_dropout_is_torchs_own() -> None:
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
    weights = attention_dropping_keys(q, k, values, 0.3)
    assert torch.allclose(weights.sum(-1), torch.ones((), device=device))
    seen = weights > 0
    assert not seen.triu(1).any()
    assert seen.diagonal(dim1=-2, dim2=-1).all()
    before = torch.ones(16, 16, dtype=torch.bool).tril(-1)
    assert seen[..., before].float().mean().item() == pytest.approx(0.7, abs=0.02)
    scores = (q @ k.mT / 8**0.5).masked_fill(~seen, -torch.inf)
    torch.testing.assert_close(weights, scores.softmax(-1))
