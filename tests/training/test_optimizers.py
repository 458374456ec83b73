from collections.abc import Callable
from typing import Any

import pytest
import torch

from conftest import params_with
from dropgpt.model.gpt import GPT
from dropgpt.params import Train
from dropgpt.training.optimizers import Optimizers, orthogonal, wide

SHAPES = [(12, 4), (4, 12), (8, 8), (16, 4)]


def train_params(**changes: Any) -> Train:
    return params_with(train=changes).train


def with_gradients(model: GPT) -> GPT:
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return model


FIRST = torch.tensor(1.0)


def moved(
    make_gpt: Callable[..., GPT], rate: float | torch.Tensor = 0.01, **changes: Any
) -> dict[str, torch.Tensor]:
    """By how much one step moves each parameter."""
    model = with_gradients(make_gpt())
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    Optimizers(model, train_params(**changes), torch.float32).step(FIRST, rate)
    return {name: p.detach() - before[name] for name, p in model.named_parameters()}


def test_muon_is_that_of_torch(make_gpt: Callable[..., GPT]) -> None:
    """Within rounding: where torch multiplies matrices, ours multiply all of a shape at once."""
    ours, theirs = make_gpt(), make_gpt()
    names = [n for n, p in theirs.named_parameters() if n.startswith("h.") and p.ndim == 2]
    muon = torch.optim.Muon(
        [theirs.get_parameter(name) for name in names],
        lr=0.02,
        weight_decay=0.1,
        adjust_lr_fn="match_rms_adamw",
    )
    optimizers = Optimizers(ours, train_params(matrix_rate_factor=2.0), torch.bfloat16)
    start = {name: ours.get_parameter(name).detach().clone() for name in names}
    for step in range(3):
        for parameter in theirs.parameters():
            parameter.grad = torch.randn_like(parameter)
        for name, parameter in ours.named_parameters():
            parameter.grad = theirs.get_parameter(name).grad.clone()
        muon.step()
        optimizers.step(torch.tensor(step + 1.0), 0.01)
    for name in names:
        a, b = (model.get_parameter(name) - start[name] for model in (ours, theirs))
        assert (a - b).norm() < 0.01 * b.norm(), name


@pytest.mark.parametrize("shape", SHAPES)
def test_the_singular_values_become_about_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonal(wide(matrix)[None])[0]
    found = found if wide(matrix) is matrix else found.T
    values = (u.T @ found @ v.T).diagonal()
    assert values.min() > 0.6
    assert values.max() < 1.3
    assert (found - u @ values.diag() @ v).abs().max() < 1e-4


def test_one_rate_and_one_decay_are_plain_adamw(make_gpt: Callable[..., GPT]) -> None:
    """As the reference experiment has it; bit for bit."""
    ours, plain = with_gradients(make_gpt()), with_gradients(make_gpt())
    one = train_params(
        optimizer="adamw",
        matrix_rate_factor=1.0,
        token_embedding_rate_factor=1.0,
        weight_decay=0.01,
        weight_decay_biases_and_norms=0.01,
    )
    Optimizers(ours, one, torch.float32).step(FIRST, 1e-3)
    torch.optim.AdamW(plain.parameters(), lr=1e-3, weight_decay=0.01, fused=True).step()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_each_group_has_its_rate(make_gpt: Callable[..., GPT], optimizer: str) -> None:
    factors = {"matrix_rate_factor": 2.0, "token_embedding_rate_factor": 3.0}
    steps = moved(make_gpt, optimizer=optimizer, weight_decay=0.0, **factors)
    for name, step in steps.items():
        matrix = name.startswith("h.") and step.ndim == 2
        factor = 2 if matrix else 3 if name == "wte.weight" else 1
        # AdamW's first step is as long as the rate for each parameter; Muon's is a fifth of it.
        length = 0.2 if matrix and optimizer == "muon" else 1
        rms = step.square().mean().sqrt().item()
        assert rms == pytest.approx(0.01 * factor * length, rel=0.2), name


def test_biases_and_norms_decay_by_themselves(make_gpt: Callable[..., GPT]) -> None:
    def decayed(**changes: Any) -> set[int]:
        """How many dimensions the parameters have that decay."""
        steps, free = moved(make_gpt, **changes), moved(make_gpt, **none)
        return {step.ndim for name, step in steps.items() if not torch.equal(step, free[name])}

    none = {"weight_decay": 0.0, "weight_decay_biases_and_norms": 0.0}
    assert decayed(**none | {"weight_decay": 0.5}) == {2}
    assert decayed(**none | {"weight_decay_biases_and_norms": 0.5}) == {1}


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_rate_that_a_graph_reads_moves_as_a_number_does(
    make_gpt: Callable[..., GPT], optimizer: str
) -> None:
    by_number = moved(make_gpt, 0.01, optimizer=optimizer)
    by_tensor = moved(make_gpt, torch.tensor(0.01), optimizer=optimizer)
    for name, step in by_number.items():
        torch.testing.assert_close(by_tensor[name], step, rtol=1e-4, atol=1e-7)
