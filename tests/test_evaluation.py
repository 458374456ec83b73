import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from conftest import params_with, token_tensor
from dropgpt.corpus.document import Document
from dropgpt.evaluation import by_document, document_losses, losses, plan
from dropgpt.model.gpt import GPT
from dropgpt.perplexity import interval, perplexity
from dropgpt.randomness import seed_dropout
from dropgpt.tokens import tensor
from dropgpt.tokens.articles import PARTS
from dropgpt.tokens.encoding import encode_documents
from dropgpt.tokens.vocabulary import N_VOCAB, gpt2_encoding
from stages.evaluate import counted, held_out, told

LENGTHS = np.array([1, 5, 32, 33, 100, 47])
TOKENS = np.random.default_rng(0).integers(0, N_VOCAB, LENGTHS.sum()).astype(np.uint16)
DOCUMENTS = pd.DataFrame(
    {"id": list("abcdef"), "source": list("abcdef"), "tokens": LENGTHS, "bytes": 4 * LENGTHS}
)


@pytest.mark.parametrize("stride", [1, 7, 16, 32])
def test_each_token_is_measured_once_with_the_context_that_the_stride_promises(stride: int) -> None:
    windows = plan(LENGTHS, n_ctx=32, stride=stride)
    measured = np.concatenate([np.arange(w.score, w.end) for w in windows])
    assert sorted(measured) == list(range(LENGTHS.sum()))
    ends = np.cumsum(LENGTHS)
    for w in windows:
        begin = (
            ends[np.searchsorted(ends, w.first, side="right")]
            - LENGTHS[np.searchsorted(ends, w.first, side="right")]
        )
        assert w.end - w.first <= 32
        assert w.score - w.first >= min(32 - stride, w.score - begin)
        assert w.end <= ends[np.searchsorted(ends, w.first, side="right")]


def plain_loss(model: GPT, context: list[int], target: int) -> float:
    z = model(torch.tensor([context]))[0, -1]
    return F.cross_entropy(z[None].double(), torch.tensor([target])).item()


def test_losses_are_those_of_a_token_at_a_time(make_gpt: Callable[..., GPT]) -> None:
    """Each document begins after <|endoftext|>, whatever stands before it in the stream."""
    model = make_gpt().eval()
    found = losses(model, TOKENS, plan(LENGTHS, 32, stride=1), batch_size=7)
    begins = np.cumsum(LENGTHS) - LENGTHS
    for begin, length in zip(begins, LENGTHS, strict=True):
        text = [N_VOCAB - 1, *TOKENS[begin : begin + length].tolist()]
        for t in (0, length // 2, length - 1):
            expected = plain_loss(model, text[max(0, t - 31) : t + 1], text[t + 1])
            assert found[begin + t] == pytest.approx(expected, abs=1e-4)


def test_the_context_crosses_documents_only_when_asked(make_gpt: Callable[..., GPT]) -> None:
    model = make_gpt().eval()
    with torch.no_grad():
        model.wte.weight *= 20  # an untrained model hardly looks at its context

    def nats(across: bool, tokens: np.ndarray) -> pd.Series:
        evaluate = params_with(evaluate={"across_documents": across}).evaluate
        return document_losses(model, tokens, DOCUMENTS, evaluate).nats

    changed = TOKENS.copy()
    changed[:38] = 7  # the first three documents
    assert (nats(False, changed)[3:] == nats(False, TOKENS)[3:]).all()
    assert nats(True, changed)[3] != nats(True, TOKENS)[3]


def test_the_batch_size_does_not_change_the_numbers(make_gpt: Callable[..., GPT]) -> None:
    model = make_gpt().eval()
    windows = plan(LENGTHS, 32, 16)
    np.testing.assert_allclose(
        losses(model, TOKENS, windows, 1), losses(model, TOKENS, windows, 50), atol=1e-4
    )


def test_dropout_left_on_costs_loss_and_eval_mode_is_given_back(
    make_gpt: Callable[..., GPT],
) -> None:
    evaluate = params_with().evaluate
    off = document_losses(make_gpt(dropout=0.0), TOKENS, DOCUMENTS, evaluate)
    assert (off.nats == off.nats_dropout_on).all()
    assert (off.nats == off.nats_monte_carlo).all()
    model = make_gpt(dropout=0.5)
    on = document_losses(model, TOKENS, DOCUMENTS, evaluate)
    torch.rand(3)  # the masks do not depend on what was drawn before
    again = document_losses(model, TOKENS, DOCUMENTS, evaluate)
    assert (on.nats == off.nats).all()
    assert (on.nats != on.nats_dropout_on).all()
    assert (on.nats_dropout_on == again.nats_dropout_on).all()
    assert not model.training


def test_monte_carlo_averages_the_probabilities_of_passes_with_masks_of_their_own(
    make_gpt: Callable[..., GPT],
) -> None:
    model, one = make_gpt(dropout=0.5), pd.DataFrame({"tokens": [1]})
    with torch.no_grad():
        model.wte.weight *= 20  # so that the passes differ
    token = TOKENS[:1]
    evaluate = params_with(evaluate={"dropout_passes": 3}).evaluate
    passes = []
    for number in range(3):
        seed_dropout(evaluate.seed, "evaluation", number, range(1), torch.device("cpu"))
        passes.append(losses(model.train(), token, plan(np.array([1]), 32, 16), 1)[0])
    assert len({*passes}) == 3
    found = document_losses(model, token, one, evaluate)
    assert found.nats_dropout_on[0] == pytest.approx(np.mean(passes))
    assert found.nats_monte_carlo[0] == pytest.approx(-np.log(np.mean(np.exp(-np.array(passes)))))
    assert found.nats_monte_carlo[0] < found.nats_dropout_on[0]


def test_the_end_of_a_text_is_no_part_of_it(make_gpt: Callable[..., GPT]) -> None:
    model = make_gpt(dropout=0.0)
    tokens = np.array([5, 6, model.end_of_text, 7, model.end_of_text], dtype=np.uint16)
    documents = pd.DataFrame({"tokens": [3, 2]})
    evaluate = params_with().evaluate
    each = losses(model.eval(), tokens, plan(np.array([3, 2]), 32, 16), 1).astype(float)
    found = document_losses(model, tokens, documents, evaluate)
    assert found.nats.tolist() == pytest.approx([each[:3].sum(), each[3:].sum()])
    assert found.nats_of_text.tolist() == pytest.approx([each[:2].sum(), each[3]])


@pytest.mark.parametrize(
    ("bits", "folder", "often", "line"),
    [
        (1.8, "models/gpt", 0.5, None),
        (2.0, "models/gpt", 0.5, "than the trigram, which only counts: take more steps or a"),
        (2.4, "models/gpt", 0.5, "than the unigram, which only counts: take more steps or a"),
        (2.0, "models/gpt", 61.0, "counts, after 61.0 readings: take fewer steps, more text"),
        (2.0, "pretrained/a", None, "than the trigram, which only counts the training part"),
    ],
)
def test_a_model_that_is_worse_than_counting_is_told_so(
    bits: float, folder: str, often: float | None, line: str | None
) -> None:
    values = {"bits_per_byte": bits, "loss": 6.0, "perplexity": 400.0, "perplexity_95_low": None}
    values |= {"perplexity_95_high": None, "trigram_bits_per_byte": 1.9, "trigram_perplexity": 50.0}
    values |= {"unigram_bits_per_byte": 2.3, "unigram_perplexity": 2000.0}
    said = told(Path(folder), values, often)
    assert said[:2] == [
        f"{folder}: 6.000 nats a token, {bits:.3f} bits per byte, perplexity 400 (95% interval "
        "unknown, of one document)",
        "a trigram has 1.900 and 50.0, the unigram 2.300 and 2,000: data/evaluation/summary.json",
    ]
    assert len(said) == 2 + (line is not None)
    assert (line or "") in said[-1]


def test_beside_a_model_of_another_vocabulary_counting_is_told_in_bits_alone() -> None:
    training, held_out = np.arange(20) % 5, np.arange(9) % 5
    tokens = token_tensor(training.astype(np.uint16), held_out.astype(np.uint16))
    tokens.documents["bytes"] = [20, 9]
    alike, other = counted(tokens, None), counted(tokens, None, same_vocabulary=False)
    assert {key: value for key, value in other.items() if value is not None} == {
        key: value for key, value in alike.items() if key.endswith("bits_per_byte")
    }
    values = {"bits_per_byte": 1.8, "loss": 6.0, "perplexity": 400.0, "perplexity_95_low": None}
    values |= {"perplexity_95_high": None} | other
    bits = [f"{other[f'{name}_bits_per_byte']:.3f}" for name in ("trigram", "unigram")]
    said = told(Path("pretrained/a"), values, None)[1]
    assert said.startswith(f"a trigram has {bits[0]} bits per byte, the unigram {bits[1]} bits")


def test_the_end_of_a_parted_document_is_of_the_same_article_as_what_follows() -> None:
    """Where all is of one article, chance is told by documents."""
    nats, tokens = pd.Series([3.0, 5.0, 3.2, 4.8]), pd.Series([1, 1, 1, 1])
    parted = pd.Series([f"book{PARTS[1]}", "book", "book", "book"])
    assert interval(nats, tokens, parted) == interval(nats, tokens, pd.Series(["book"] * 4))
    two = pd.Series([f"book{PARTS[1]}", "book", "other", "other"])
    assert interval(nats, tokens, two) == interval(nats, tokens, pd.Series(list("aabb")))


def test_a_document_without_tokens_has_no_loss() -> None:
    documents = pd.DataFrame({"tokens": [0, 2, 0, 1, 0], "source": list("abcde")})
    losses = np.array([1.0, 2.0, 4.0])
    assert by_document(losses, documents).tolist() == [0, 3, 0, 4, 0]
    found = perplexity(
        pd.Series(by_document(losses, documents)), documents.tokens, documents.source
    )
    assert found["loss"] == pytest.approx(7 / 3)
    assert found["perplexity_95_low"] < math.exp(7 / 3) < found["perplexity_95_high"]


@pytest.mark.parametrize("n_vocab", [N_VOCAB, 300])
def test_in_another_vocabulary_the_held_out_documents_are_the_same(
    tmp_path: Path, n_vocab: int
) -> None:
    texts = [Document(f"The {n}th cat, 天地.", f"page {n}#1", f"page {n}") for n in range(4)]
    encoded = encode_documents(texts, gpt2_encoding(n_vocab), end_of_text=True)
    tensor.write(encoded, tmp_path / "tokens", n_vocab, validation_fraction=0.4)
    for of_model in (N_VOCAB, 300):
        tokens, documents = held_out(tensor.read(tmp_path / "tokens"), of_model, end_of_text=True)
        assert documents.id.tolist() == ["page 2#1", "page 3#1"]
        assert documents.source.tolist() == ["page 2", "page 3"]
        assert documents.bytes.tolist() == [len(text.text.encode()) for text in texts[2:]]
        written = gpt2_encoding(of_model).decode(tokens.tolist())
        assert written == "".join(f"{text.text}<|endoftext|>" for text in texts[2:])
