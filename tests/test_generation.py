import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from conftest import params_with
from dropgpt.errors import UserError
from dropgpt.generation import (
    _uniforms,
    draw,
    generate,
    new_tokens,
    page,
    probabilities,
    together,
    variety,
)
from dropgpt.model.gpt import GPT, Cache
from dropgpt.params import Sample
from dropgpt.randomness import generator
from dropgpt.tokens.vocabulary import N_VOCAB

PROMPT = [10, 20, 30]


def sample(**changes: Any) -> Sample:
    return params_with(sample={"tokens": 20} | changes).sample


@pytest.fixture
def model(make_gpt: Callable[..., GPT]) -> GPT:
    """An untrained model whose weights are large enough to prefer some tokens to others."""
    gpt = make_gpt().eval()
    with torch.no_grad():
        gpt.wte.weight *= 300
    return gpt


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("tokens", [20, 60])  # 60: the context of 32 fills up, and slides
def test_the_cache_does_not_change_the_tokens(model: GPT, temperature: float, tokens: int) -> None:
    cached = generate(model, PROMPT, temperature, sample(tokens=tokens))
    plain = generate(model, PROMPT, temperature, sample(tokens=tokens), use_cache=False)
    assert cached == plain
    assert len(cached) == tokens


def test_the_cache_gives_the_logits_of_the_whole_text(model: GPT) -> None:
    text = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
    cache = Cache(model)
    parts = [model.features(text[:, :4], cache)]
    parts += [model.features(text[:, i : i + 1], cache) for i in range(4, 8)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model.features(text), rtol=0, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"top_k": 5}, {"top_p": 0.5}], ids=str)
@pytest.mark.parametrize("tokens", [20, 60])  # 60: the context of 32 fills up, and slides
def test_all_together_are_what_each_is_alone(
    model: GPT, tokens: int, changes: dict[str, Any]
) -> None:
    """As a GPU makes them, on tensors of the CPU."""
    params = sample(tokens=tokens, **changes)
    prompts = [[10, 20, 30], [7], list(range(100, 130)), [1, 2, 3, 4, 5, 6]]
    pairs = [(prompt, temperature) for prompt in prompts for temperature in (0.0, 0.5, 1.0)]
    assert together(model, pairs, params) == [generate(model, *pair, params) for pair in pairs]


def test_together_they_take_no_more_memory_than_they_fill(
    model: GPT, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int | None] = []

    class Noted(Cache):
        def __init__(self, model: GPT, padding: torch.Tensor, columns: int | None = None) -> None:
            made.append(columns)
            super().__init__(model, padding, columns)

    monkeypatch.setattr("dropgpt.generation.Cache", Noted)
    together(model, [([10, 20, 30], 0.0), ([7], 1.0)], sample(tokens=5))
    together(model, [([10, 20, 30], 0.0)], sample(tokens=31))
    assert made == [8, 32, 32]  # the last slides along its context


def test_one_that_ends_does_not_end_the_others(model: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [([10, 20, 30], 0.0), ([7], 1.0)]
    likeliest = generate(model, *pairs[0], sample())[0]
    monkeypatch.setattr(GPT, "end_of_text", likeliest)
    ended, other = together(model, pairs, sample())
    assert ended == []
    assert other == generate(model, *pairs[1], sample())
    assert len(other) > 1


@pytest.mark.parametrize("temperature", [5e-324, 1e-310, 1e-300])
def test_a_temperature_however_near_to_zero_is_greedy(model: GPT, temperature: float) -> None:
    greedy = generate(model, PROMPT, 0.0, sample())
    for changes in ({}, {"top_k": 5}, {"top_p": 0.5}):
        assert generate(model, PROMPT, temperature, sample(**changes)) == greedy


def test_temperature_zero_takes_the_likeliest_token(model: GPT) -> None:
    first = generate(model, PROMPT, 0.0, sample())[0]
    assert first == model(torch.tensor([PROMPT]))[0, -1].argmax().item()


def test_what_is_drawn_depends_on_seed_prompt_and_temperature(model: GPT) -> None:
    drawn = generate(model, PROMPT, 1.0, sample())
    assert generate(model, PROMPT, 1.0, sample()) == drawn
    assert generate(model, PROMPT, 1.0, sample(seed=2)) != drawn
    assert generate(model, PROMPT, 1.0, sample(tokens=5)) == drawn[:5]
    assert generate(model, PROMPT, 1.0, sample(temperatures=[0.3], prompts=["x"])) == drawn


def test_probabilities_are_exp_of_the_logits_over_the_temperature() -> None:
    z = torch.tensor([1.0, 2.0, -3.0, 0.5])
    for temperature in (0.3, 1.0, 2.0):
        weights = [math.exp(value / temperature) for value in z.tolist()]
        expected = torch.tensor([w / sum(weights) for w in weights], dtype=torch.float64)
        torch.testing.assert_close(probabilities(z, temperature), expected)
    assert probabilities(z, 0.0).tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_logits_that_are_no_numbers_are_an_error(model: GPT, temperature: float) -> None:
    """As of finite weights that overflow; else it would write one token, again and again."""
    with torch.no_grad():
        model.ln_f.weight *= 1e38
    with pytest.raises(UserError, match="logits are not finite"):
        generate(model, PROMPT, temperature, sample())


def test_the_numbers_drawn_one_by_one_are_those_drawn_at_once() -> None:
    """Bit for bit, so that samples are as they have always been."""
    at_once = generator(7, "sampling", f"{PROMPT}/0.8").random(10_000)
    one_by_one = list(_uniforms(sample(seed=7, tokens=10_000), PROMPT, 0.8))
    assert one_by_one == at_once.tolist()


@pytest.mark.parametrize("tokens", [10**12, 10**30])
def test_as_many_tokens_may_be_asked_for_as_one_likes(model: GPT, tokens: int) -> None:
    """None is drawn for before its turn comes."""
    params = sample(tokens=tokens)
    written = new_tokens(model, PROMPT, 1.0, params)
    expected = generate(model, PROMPT, 1.0, sample())
    assert [next(written) for _ in expected] == expected
    with torch.no_grad():
        model.wte.weight[N_VOCAB - 1] = 1000 * model.features(torch.tensor([PROMPT]))[0, -1]
    assert together(model, [(PROMPT, 0.0)], params) == [[]]


def test_draws_follow_the_probabilities() -> None:
    p = probabilities(torch.tensor([1.0, 2.0, -3.0, 0.5]), 0.7)
    uniform = generator(1, "sampling").random(20_000)
    drawn = torch.bincount(torch.tensor([draw(p, float(u)) for u in uniform]), minlength=4)
    torch.testing.assert_close(drawn / 20_000, p.float(), rtol=0, atol=0.01)


def test_a_token_of_probability_zero_is_never_drawn() -> None:
    p = torch.tensor([0.0, 0.5, 0.0, 0.5, 0.0], dtype=torch.float64)
    assert {draw(p, u) for u in (0.0, 0.499, 0.5, 1 - 2**-53)} == {1, 3}


def test_top_k_and_top_p() -> None:
    z = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    torch.testing.assert_close(
        probabilities(z, 1.0, top_k=2), torch.tensor([4 / 7, 3 / 7, 0, 0], dtype=torch.float64)
    )
    assert probabilities(z, 1.0, top_p=0.65).count_nonzero() == 2
    assert probabilities(z, 1.0, top_p=0.75).count_nonzero() == 3
    assert probabilities(z, 1.0, top_p=1e-9).count_nonzero() == 1
    assert probabilities(z, 1.0, top_k=9, top_p=1.0).count_nonzero() == 4


def test_end_of_text_ends_a_generation(model: GPT) -> None:
    with torch.no_grad():
        model.wte.weight[N_VOCAB - 1] = 1000 * model.features(torch.tensor([PROMPT]))[0, -1]
    assert generate(model, PROMPT, 0.0, sample()) == []


def test_variety() -> None:
    found = variety([[1, 2, 1, 2, 1, 2], [1, 2]])
    assert found["distinct_1"] == 2 / 8
    assert found["distinct_2"] == 2 / 6
    assert found["repetition"] == 1 / 3  # 1212, 2121, then 1212 again
    assert variety([[], [1]])["repetition"] is None


def test_the_page_shows_text_as_it_is() -> None:
    text = page(
        [{"prompt": "A *b*", "temperature": 0.0, "text": " <i>\nc_d", "tokens": [], "ended": True}]
    )
    assert "> <strong>A \\*b\\*</strong>" in text
    assert "\\<i\\>\n> c\\_d ∎" in text
    assert "### greedy" in text


def test_the_page_shows_what_markdown_would_take_otherwise() -> None:
    """Entities, a line end without line feed, control characters; blanks and joiners stay."""

    def quoted(text: str) -> list[str]:
        one = {"prompt": text, "temperature": 1.0, "text": text, "tokens": [], "ended": True}
        return [line for line in page([one]).splitlines() if line.startswith("> ")]

    assert quoted("&lt;") == [r"> <strong>\&lt;</strong>\&lt; ∎"]
    assert quoted("a\r- b") == ["> <strong>a</strong>", r"> <strong>- b</strong>a", r"> \- b ∎"]
    assert quoted("a\0\x0c\x1b")[0].endswith("a��� ∎")
    assert (
        quoted("a\N{NO-BREAK SPACE}b\N{ZERO WIDTH JOINER}c")[0].count("b\N{ZERO WIDTH JOINER}") == 2
    )


def test_the_page_of_a_prompt_with_lines_and_blanks() -> None:
    def quoted(prompt: str) -> list[str]:
        one = {"prompt": prompt, "temperature": 1.0, "text": "then", "tokens": [], "ended": True}
        return page([one]).splitlines()

    lines = quoted("To be,\n\nor not ")
    assert "## To be, or not …" in lines
    assert lines[6:9] == ["> <strong>To be,</strong>", "> ", "> <strong>or not</strong> then ∎"]
    assert r"## '\\n ' …" in quoted("\n ")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("---", r"\---"),
        ("=", r"\="),
        ("1. one", r"1\. one"),
        ("12) twelve", r"12\) twelve"),
        ("    code", "&nbsp;&nbsp;&nbsp;&nbsp;code"),
        ("1.5 and -1", r"1\.5 and -1"),
        ("plain", "plain"),
    ],
)
def test_no_line_of_the_page_is_taken_for_a_list_a_heading_or_code(line: str, shown: str) -> None:
    one = {"prompt": "A", "temperature": 1.0, "text": f"\n{line}\n", "tokens": [], "ended": True}
    assert f"> {shown}" in page([one]).splitlines()
