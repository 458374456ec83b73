"""What `dropgpt.load` and `dropgpt.write` promise, by the names that a user has for them."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dropgpt
from conftest import message
from dropgpt import writing
from dropgpt.errors import UserError
from dropgpt.machine.files import SUMS
from dropgpt.model import artifact
from dropgpt.model.gpt import GPT
from dropgpt.tokens.vocabulary import encode, encode_prompt, gpt2_encoding

ENCODING = gpt2_encoding()


@pytest.fixture
def model(make_gpt: Callable[..., GPT]) -> GPT:
    """An untrained model whose weights are large enough to prefer some tokens to others."""
    gpt = make_gpt().eval()
    with torch.no_grad():
        gpt.wte.weight *= 300
    return gpt


def test_a_model_that_was_saved_writes_as_before(model: GPT, tmp_path: Path) -> None:
    artifact.save(model, tmp_path / "anywhere")
    text = dropgpt.write(model, "Once upon a time", seed=1)
    loaded = dropgpt.load(str(tmp_path / "anywhere"))
    assert dropgpt.write(loaded, "Once upon a time", seed=1) == text
    assert text.startswith("Once upon a time")
    assert len(text) > 200


def test_a_seed_writes_the_same_and_none_something_new(model: GPT) -> None:
    first = dropgpt.write(model, "A", 1, seed=5)
    assert dropgpt.write(model, "A", 1.0, seed=5) == first
    assert dropgpt.write(model, "A", 1.0, seed=6) != first
    assert dropgpt.write(model, "A", 1.0) != dropgpt.write(model, "A", 1.0)


def test_without_a_prompt_a_document_begins(model: GPT) -> None:
    text = dropgpt.write(model, temperature=0, tokens=1)
    z = model(torch.tensor([encode_prompt(ENCODING, "<|endoftext|>")]))[0, -1]
    assert text == ENCODING.decode([int(z.argmax())])


def test_a_prompt_may_be_longer_than_the_context(model: GPT) -> None:
    words = "word " * 50
    text = dropgpt.write(model, words, 0, tokens=3)
    last = encode_prompt(ENCODING, words)[-model.config.n_ctx :]
    first = int(model(torch.tensor([last]))[0, -1].argmax())
    assert text.startswith(words + ENCODING.decode([first]))


@given(st.text(min_size=1), st.lists(st.integers(0, 50256), max_size=8))
def test_only_whole_characters_are_written(text: str, others: list[int]) -> None:
    """Tokens may hold a part of a character, and a model may write any after any."""
    ids = [*encode(ENCODING, text).tolist(), *others]

    def written(*_: object) -> Iterator[int]:
        yield from ids

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "new_tokens", written)
        patch.setattr(writing, "gpt2_encoding", lambda _: ENCODING)
        model = type("", (), {"n_vocab": None})
        pieces = list(writing.pieces(model, writing.settings("", 1.0, 9, None, None, 1)))  # type: ignore[arg-type]
    assert "".join(pieces) == ENCODING.decode(ids)
    assert others or "".join(pieces) == text


def test_the_model_computes_without_gradients_and_who_reads_may_have_them(model: GPT) -> None:
    computing: list[bool] = []

    def hook(*_: object) -> None:
        computing.append(torch.is_inference_mode_enabled())

    model.ln_f.register_forward_hook(hook)
    params = writing.settings("A", 1.0, 3, None, None, 1)
    reading = [torch.is_inference_mode_enabled() for _ in writing.pieces(model, params)]
    assert computing == [True] * 3
    assert reading == [False] * 5


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"temperature": -1.0}, "write: temperature is -1.0: input should be greater than or"),
        ({"tokens": 0}, "write: tokens is 0: input should be greater than 0"),
        ({"top_k": 0}, "write: top_k is 0: input"),
        ({"top_p": 1.5}, "write: top_p is 1.5: input"),
        ({"seed": -1}, "write: seed is -1: input"),
    ],
)
def test_a_value_out_of_its_range_is_told_in_a_line(
    model: GPT, values: dict[str, float], said: str
) -> None:
    with pytest.raises(UserError) as error:
        dropgpt.write(model, "A", **values)  # type: ignore[arg-type]
    assert message(error).startswith(said)


def test_no_model_and_a_damaged_one_are_told_in_a_line(model: GPT, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        dropgpt.load(tmp_path / "none")
    assert "no such folder; `dvc repro train` in the project's root makes a model" in message(error)
    artifact.save(model, tmp_path / "gpt")
    weights = tmp_path / "gpt/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError) as error:
        dropgpt.load(tmp_path / "gpt")
    assert "is damaged: model.safetensors is not what train wrote there" in message(error)
    (tmp_path / "gpt" / SUMS).unlink()
    dropgpt.load(tmp_path / "gpt")  # as any folder that was made elsewhere


def test_the_import_alone_imports_nothing_large() -> None:
    code = "import dropgpt, sys; print(len(sys.modules), 'torch' in sys.modules, dir(dropgpt))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert said.endswith(" False ['load', 'write']\n")
    with pytest.raises(AttributeError, match="no attribute 'wirte'"):
        dropgpt.wirte  # type: ignore[attr-defined]  # noqa: B018
