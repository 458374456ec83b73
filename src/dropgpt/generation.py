"""Temperature sampling, how varied its texts are, and the page that shows them."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dropgpt.errors import UserError
from dropgpt.machine.threads import in_threads
from dropgpt.model.gpt import GPT, Cache
from dropgpt.params import Sample
from dropgpt.printable import printable
from dropgpt.randomness import generator

Pair = tuple[list[int], float]  # a prompt and a temperature


def generations(model: GPT, pairs: list[Pair], params: Sample) -> Iterator[list[int]]:
    """Up to `params.tokens` new tokens for each pair, in their order; see `new_tokens`.

    On a CPU each is a thread's work, and has the bits of one that is made alone. On a GPU all are
    made together, since a token of many takes no longer there than one of a single text.
    """
    if model.device.type == "cpu":
        yield from in_threads(lambda pair: generate(model, *pair, params), pairs)
    else:
        yield from together(model, pairs, params)


@torch.inference_mode()
def together(model: GPT, pairs: list[Pair], params: Sample) -> list[list[int]]:
    """The same as one batch, a token of each at a time."""
    device, n_ctx, filler = model.device, model.config.n_ctx, model.end_of_text
    drawn_by = [_uniforms(params, *pair) for pair in pairs]
    texts = [list(prompt) for prompt, _ in pairs]
    going = set(range(len(pairs)))
    cache: Cache | None = None
    for _ in range(params.tokens):
        if not going:
            break
        if cache is not None and cache.length < n_ctx:
            unread = [text[-1:] for text in texts]
        else:  # at first, and where the longest has filled the context, along which all slide
            unread = [text[-n_ctx:] for text in texts]
            longest = max(map(len, unread))
            padding = [longest - len(text) for text in unread]
            unread = [[filler] * pad + text for pad, text in zip(padding, unread, strict=True)]
            columns = min(n_ctx, longest + params.tokens)
            cache = Cache(model, torch.tensor(padding, device=device), columns)
        features = model.features(torch.tensor(unread, device=device), cache)
        logits = (features[:, -1] @ model.head.T).cpu()
        for row, (_, temperature) in enumerate(pairs):
            token = filler
            if row in going:
                p = probabilities(logits[row], temperature, params.top_k, params.top_p)
                token = draw(p, next(drawn_by[row]))
                if token == model.end_of_text:
                    going.remove(row)
            texts[row].append(token)
    made = [text[len(prompt) :] for text, (prompt, _) in zip(texts, pairs, strict=True)]
    return [tokens[: _length(tokens, model.end_of_text)] for tokens in made]


def _length(tokens: list[int], end: int) -> int:
    """How many tokens there are before `end`."""
    return tokens.index(end) if end in tokens else len(tokens)


def generate(
    model: GPT,
    prompt: list[int],
    temperature: float,
    params: Sample,
    use_cache: bool = True,
) -> list[int]:
    """Up to `params.tokens` new tokens after `prompt`; see `new_tokens`."""
    return list(new_tokens(model, prompt, temperature, params, use_cache))


@torch.inference_mode()  # around each token, and not around what is done with it
def new_tokens(
    model: GPT,
    prompt: list[int],
    temperature: float,
    params: Sample,
    use_cache: bool = True,
) -> Iterator[int]:
    """Up to `params.tokens` new tokens after `prompt`; <|endoftext|> ends them and is left out.

    What is drawn depends on the seed, the prompt and the temperature alone, not on what else is
    sampled. Once the context is full it slides along by a token at a time; positions are learned
    for absolute places, so the cache is of no use from there on.
    """
    n_ctx = model.config.n_ctx
    text = list(prompt)
    cache = Cache(model) if use_cache else None
    for u in _uniforms(params, prompt, temperature):
        if cache is not None and cache.length < len(text) <= n_ctx:
            unread = text[cache.length :]
            features = model.features(torch.tensor([unread], device=model.device), cache)
        else:
            features = model.features(torch.tensor([text[-n_ctx:]], device=model.device))
        z = model.head @ features[0, -1]
        token = draw(probabilities(z, temperature, params.top_k, params.top_p), u)
        if token == model.end_of_text:
            return
        text.append(token)
        yield token


def _uniforms(params: Sample, prompt: list[int], temperature: float) -> Iterator[float]:
    """What each new token is drawn by, in [0, 1).

    One after the other, since most of very many might never be asked for.
    """
    stream = generator(params.seed, "sampling", f"{prompt}/{temperature}")
    return (stream.random() for _ in range(params.tokens))


def probabilities(
    logits: Tensor, temperature: float, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """exp(z/T), normalised, (vocabulary,) float64 on the CPU; temperature 0 is all on the largest.

    `top_k` keeps the k likeliest tokens. `top_p` keeps the fewest likeliest ones that together
    have that probability (Holtzman et al. 2020), after the temperature and top_k.
    Raises UserError where the logits are not finite.
    """
    z = logits.detach().cpu().double()  # some devices have no float64
    if temperature == 0:
        if not z.isfinite().all():  # from above, too, where no temperature makes them finite
            raise UserError("the model's logits are not finite: its weights are too large")
        return torch.zeros_like(z).index_fill_(0, z.argmax(), 1.0)
    scaled = z / temperature
    if not scaled.isfinite().all():  # so near to 0 that it is the same
        return probabilities(logits, 0.0)
    z = scaled
    if top_k is not None and top_k < len(z):
        values, order = z.topk(top_k)
        z = torch.full_like(z, -torch.inf).scatter(0, order, values)
    p = z.softmax(0)
    if top_p is not None:
        likeliest, order = p.sort(descending=True, stable=True)
        likeliest[likeliest.cumsum(0) - likeliest >= top_p] = 0
        p = torch.zeros_like(p).scatter(0, order, likeliest)
        p /= p.sum()
    return p


def draw(p: Tensor, u: float) -> int:
    """The token at which the cumulative probability passes u, uniform in [0, 1)."""
    cumulative = p.cumsum(0).numpy()
    return int(np.searchsorted(cumulative, u * cumulative[-1], side="right"))


def variety(generations: list[list[int]]) -> dict[str, Any]:
    """How varied some generations are, from 0 to 1.

    distinct_n  different n-grams over all n-grams of all generations (Li et al. 2016)
    repetition  share of the 4-grams that stand earlier in the same generation
    """
    result: dict[str, Any] = {}
    for n in (1, 2, 3):
        grams = [gram for tokens in generations for gram in _ngrams(tokens, n)]
        result[f"distinct_{n}"] = len(set(grams)) / len(grams) if grams else None
    repeated = [Counter(_ngrams(tokens, 4)) for tokens in generations]
    total = sum(c.total() for c in repeated)
    again = sum(c.total() - len(c) for c in repeated)
    result["repetition"] = again / total if total else None
    return result


def page(generations: list[dict[str, Any]]) -> str:
    """Markdown for a reader: a section a prompt, a quotation a temperature."""
    lines = ["# What the model writes"]
    for prompt, group in groupby(generations, key=lambda g: g["prompt"]):
        lines += ["", f"## {_escaped(' '.join(prompt.split()) or repr(prompt))} …"]
        for g in group:
            kind = "greedy" if g["temperature"] == 0 else f"temperature {g['temperature']}"
            end = " ∎" if g["ended"] else " …"
            # A line at a time; two asterisks would not do beside punctuation.
            bold = re.sub(r"\S(?:.*\S)?", r"<strong>\g<0></strong>", _escaped(prompt))
            quotation = f"{bold}{_escaped(g['text'])}{end}"
            lines += [
                "",
                f"### {kind}",
                "",
                *(f"> {_begun(line)}" for line in quotation.split("\n")),
            ]
    lines += ["", "∎: the model ended its text here. …: cut off at `sample.tokens`.", ""]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", printable(text))


def _begun(line: str) -> str:
    """The same where its beginning would make it a list, a heading or code."""
    text = line.lstrip(" \t")
    blanks = line[: len(line) - len(text)].replace("\t", " " * 4)
    return "&nbsp;" * len(blanks) + re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", text)


def _ngrams(tokens: list[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
