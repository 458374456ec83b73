import math
from collections.abc import Callable

import pytest
import torch

from conftest import tiny_model
from dropgpt.model.dropout import Dropout
from dropgpt.model.gpt import GPT, initialised, scale_dropout
from dropgpt.model.loss import token_losses
from dropgpt.params import DropoutSites
from dropgpt.randomness import seed_dropout
from dropgpt.tokens.vocabulary import N_VOCAB

SITES = list(DropoutSites.model_fields)
TOKENS = torch.arange(64).reshape(2, 32) * 700


def draw_masks(windows: int) -> None:
    seed_dropout(7, "dropout", 0, range(windows), torch.device("cpu"))


@pytest.mark.parametrize("site", SITES)
def test_each_site_alone_changes_the_output_in_training_mode_only(site: str) -> None:
    alone = initialised(tiny_model(dropout=0.0, **{site: 0.5}), 1)
    none = initialised(tiny_model(dropout=0.0), 1)
    draw_masks(2)
    assert not torch.equal(alone.train()(TOKENS), none.train()(TOKENS))
    assert torch.equal(alone.eval()(TOKENS), none.eval()(TOKENS))


def test_the_sites_follow_model_dropout_unless_they_are_set(make_gpt: Callable[..., GPT]) -> None:
    draw_masks(2)
    assert not torch.equal(*(make_gpt(dropout=0.5).train()(TOKENS) for _ in range(2)))
    off = make_gpt(dropout=0.5, **dict.fromkeys(SITES, 0.0))
    assert torch.equal(off.train()(TOKENS), off.train()(TOKENS))


def test_eval_mode_gives_the_same_logits_for_any_rate(make_gpt: Callable[..., GPT]) -> None:
    logits = [make_gpt(dropout=rate).eval()(TOKENS) for rate in (0.0, 0.1, 0.9)]
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])


def test_the_probabilities_follow_the_factor_at_every_site(make_gpt: Callable[..., GPT]) -> None:
    model = make_gpt(dropout=0.4, block_dropout=0.2).train()
    for factor in (0.0, 0.5, 1.0):
        scale_dropout(model, factor)
        found = [module.rate for module in model.modules() if isinstance(module, Dropout)]
        assert found == [factor * 0.4] + [factor * rate for rate in (0.4, 0.4, 0.4, 0.2)] * 2
    scale_dropout(model, 0.0)
    assert torch.equal(model(TOKENS), model.eval()(TOKENS))


def test_a_window_skips_a_block_whole_or_takes_more_of_it(make_gpt: Callable[..., GPT]) -> None:
    block = make_gpt(dropout=0.0, block_dropout=0.25).train().h[0]
    x = torch.randn(1, 8, 16).expand(2000, 8, 16)
    added = block.eval()(x, None)[:1] - x[:1]
    skipped, taken = 0, 0
    draw_masks(2000)
    for found in block.train()(x, None) - x:
        skipped += not found.any()
        taken += torch.allclose(found, added[0] / 0.75, atol=1e-4)
    assert skipped + taken == 2000
    assert skipped / 2000 == pytest.approx(0.25, abs=0.03)


def test_keys_are_dropped_in_training_only_and_without_scaling(
    make_gpt: Callable[..., GPT],
) -> None:
    rates = {"dropout": 0.0, "attention": 0.5}
    keys = make_gpt(**rates, attention_dropout="keys")
    assert torch.equal(keys.eval()(TOKENS), make_gpt(dropout=0.0).eval()(TOKENS))
    attn = keys.train().h[0].attn
    with torch.no_grad():
        attn.c_attn.weight.zero_()
        attn.c_attn.bias.fill_(1)
        attn.c_proj.weight.copy_(torch.eye(16))
    draw_masks(3)
    # Whatever keys are left, the mean of equal values is that value.
    torch.testing.assert_close(attn(torch.randn(3, 32, 16), None), torch.ones(3, 32, 16))
    draw_masks(2)
    assert not torch.equal(keys(TOKENS), keys(TOKENS))


@pytest.mark.parametrize("site", SITES)
def test_a_site_drops_with_its_rate_and_scales_the_rest(site: str) -> None:
    """What enters the site is made one everywhere, so that what leaves it shows the mask."""
    rate = 0.3
    model = initialised(tiny_model(dropout=0.0, n_head=1, **{site: rate}), 1).train()
    block = model.h[0]
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
        match site:
            case "embedding":
                model.wpe.weight.fill_(1)
                block.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
            case "attention":
                # Equal scores, and one-hot values: what comes out are the weights, 1/t each.
                block.attn.c_attn.weight[32:] = torch.eye(16)
                block.attn.c_proj.weight.copy_(torch.eye(16))
            case "attention_output":
                block.attn.c_proj.bias.fill_(1)
            case "mlp":
                block.mlp.c_proj.bias.fill_(1)
    seen: list[torch.Tensor] = []
    draw_masks(500 if site in ("attention", "attention_output") else 100)
    if site == "embedding":
        model(TOKENS.repeat(50, 1))
    elif site == "mlp":
        seen = [block.mlp(torch.ones(100, 32, 16))]
    else:
        eyes = torch.eye(16).repeat(500, 1, 1)
        seen = [block.attn(eyes, None)]
    kept = seen[0]
    if site == "attention":
        kept = (kept * torch.arange(1, 17)[:, None])[:, *torch.tril_indices(16, 16)]
    dropped = kept == 0
    assert dropped.float().mean().item() == pytest.approx(rate, abs=0.02)
    assert torch.allclose(kept[~dropped], torch.tensor(1 / (1 - rate)))


def test_the_head_is_the_token_embedding(make_gpt: Callable[..., GPT]) -> None:
    model = make_gpt().to("cpu")
    assert sum(p.numel() == N_VOCAB * 16 for p in model.parameters()) == 1
    with torch.no_grad():
        model.wte.weight[7] = 100 * model.ln_f(torch.randn(16))
    z = model.eval()(TOKENS)
    assert z[..., 7].abs().mean() > 10 * z[..., 8].abs().mean()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_head_stays_the_token_embedding_on_a_gpu(make_gpt: Callable[..., GPT]) -> None:
    model = make_gpt().eval()
    expected = model(TOKENS)
    model.to("cuda")
    assert sum(p.numel() == N_VOCAB * 16 for p in model.parameters()) == 1
    torch.testing.assert_close(model(TOKENS.cuda()).cpu(), expected, rtol=1e-3, atol=1e-3)


def test_scaled_logits_are_the_raw_ones_over_the_root_of_the_width(
    make_gpt: Callable[..., GPT],
) -> None:
    raw = make_gpt(scale_logits=False).eval()(TOKENS)
    torch.testing.assert_close(make_gpt(scale_logits=True).eval()(TOKENS), raw / math.sqrt(16))


@pytest.mark.parametrize("n_embd", [16, 768])
def test_the_first_loss_is_that_of_a_uniform_guess(n_embd: int) -> None:
    model = initialised(tiny_model(n_embd=n_embd, scale_logits=True), 1).train()
    draw_masks(2)
    features = model.features(TOKENS).flatten(0, 1)
    losses = token_losses(features, model.head, TOKENS.flatten().flip(0))
    assert losses.mean().item() == pytest.approx(math.log(N_VOCAB), abs=0.02)


def test_a_token_does_not_see_those_after_it(make_gpt: Callable[..., GPT]) -> None:
    model = make_gpt().eval()
    changed = TOKENS.clone()
    changed[:, 20:] = 5
    torch.testing.assert_close(model(changed)[:, :20], model(TOKENS)[:, :20])
    assert not torch.allclose(model(changed)[:, 20:], model(TOKENS)[:, 20:])


def test_the_weights_are_a_function_of_the_seed(make_gpt: Callable[..., GPT]) -> None:
    torch.manual_seed(3)
    first = make_gpt(seed=1).state_dict()
    torch.manual_seed(4)
    again = make_gpt(seed=1).state_dict()
    other = make_gpt(seed=2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["wte.weight"], other["wte.weight"])


def test_the_initial_weights_have_the_scales_of_their_kinds() -> None:
    xavier = initialised(tiny_model(token_embedding_std=None, n_embd=64), 1)
    assert xavier.wte.weight.std().item() == pytest.approx(math.sqrt(2 / (N_VOCAB + 64)), rel=0.01)
    assert xavier.wpe.weight.std().item() == pytest.approx(math.sqrt(2 / (32 + 64)), rel=0.1)
    model = initialised(tiny_model(token_embedding_std=0.06, n_embd=64), 1)
    assert model.wte.weight.std().item() == pytest.approx(0.06, rel=0.01)
    assert model.wpe.weight.std().item() == pytest.approx(0.02, rel=0.1)
    weights = dict(model.named_parameters())
    assert weights["h.0.mlp.c_fc.weight"].std().item() == pytest.approx(0.02, rel=0.1)
    assert not weights["h.0.mlp.c_fc.bias"].any()


def test_the_arithmetic_of_a_token_is_six_for_each_weight_that_it_meets(
    make_gpt: Callable[..., GPT],
) -> None:
    gpt = make_gpt()
    c = gpt.config
    matrices = 12 * c.n_layer * c.n_embd**2
    attention = 12 * c.n_layer * c.n_embd * c.n_ctx
    assert gpt.flop_of_token() == 6 * (matrices + gpt.head.numel()) + attention
    assert gpt.flop_of_token(0.5) == 6 * (matrices + gpt.head.numel() / 2) + attention
