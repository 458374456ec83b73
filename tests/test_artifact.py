import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dropgpt import artifact
from dropgpt.errors import UserError
from dropgpt.model import GPT
from dropgpt.vocabulary import END_OF_TEXT, gpt2_encoding

TOKENS = torch.arange(64).reshape(2, 32) * 700


@pytest.mark.parametrize("scale_logits", [True, False])
def test_hugging_face_gives_our_logits(
    make_gpt: Callable[..., GPT], tmp_path: Path, scale_logits: bool
) -> None:
    from transformers import GPT2LMHeadModel

    model = make_gpt(scale_logits=scale_logits, n_layer=3).eval()
    with torch.no_grad():
        for p in model.parameters():  # not the initial values, which would hide a swap
            p.add_(0.2 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    artifact.save(model, tmp_path / "gpt")
    peer = GPT2LMHeadModel.from_pretrained(tmp_path / "gpt").eval()
    with torch.no_grad():
        torch.testing.assert_close(peer(TOKENS).logits, model(TOKENS), rtol=0, atol=1e-4)
        torch.testing.assert_close(
            artifact.load(tmp_path / "gpt")(TOKENS), model(TOKENS), rtol=0, atol=1e-4
        )


def test_hugging_face_gives_our_tokens(make_gpt: Callable[..., GPT], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    artifact.save(make_gpt(), tmp_path / "gpt")
    peer = AutoTokenizer.from_pretrained(tmp_path / "gpt")
    text = "I'll  go to Liliput,\n\n天地 🙂 in 1726!"
    assert peer.encode(text) == gpt2_encoding().encode_ordinary(text)
    assert peer.eos_token == END_OF_TEXT


def test_the_rates_travel_with_the_model(make_gpt: Callable[..., GPT], tmp_path: Path) -> None:
    artifact.save(make_gpt(dropout=0.2, mlp=0.4), tmp_path / "gpt")
    sites = artifact.load(tmp_path / "gpt").config.dropout_sites
    assert (sites.embedding, sites.attention, sites.attention_output, sites.mlp) == (
        *[0.2] * 3,
        0.4,
    )


def test_saving_twice_writes_the_same_bytes(make_gpt: Callable[..., GPT], tmp_path: Path) -> None:
    for name in ("a", "b"):
        artifact.save(make_gpt(), tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


@pytest.mark.parametrize("damage", ["absent", "cut", "flipped header", "config", "shape"])
def test_a_folder_that_is_not_whole_is_named(
    make_gpt: Callable[..., GPT], tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "gpt"
    artifact.save(make_gpt(), folder)
    weights = folder / "model.safetensors"
    match damage:
        case "absent":
            weights.unlink()
        case "cut":
            weights.write_bytes(weights.read_bytes()[:-100])
        case "flipped header":
            weights.write_bytes(b"\xff" + weights.read_bytes()[1:])
        case "config":
            (folder / "config.json").write_text("{")
        case "shape":
            config = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps(config | {"n_embd": 32}))
    with pytest.raises(UserError, match="gpt: no whole model"):
        artifact.load(folder)
