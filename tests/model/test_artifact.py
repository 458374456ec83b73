import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from conftest import ROOT, params_with
from dropgpt.errors import UserError
from dropgpt.generation import generate
from dropgpt.machine.files import SUMS
from dropgpt.model import artifact
from dropgpt.model.gpt import GPT
from dropgpt.model.hugging_face import weight_files
from dropgpt.tokens.vocabulary import END_OF_TEXT, N_VOCAB, encode_prompt, gpt2_encoding

TOKENS = torch.arange(64).reshape(2, 32) * 700
SIZES = [257, 1025, N_VOCAB]  # of the vocabulary


@pytest.mark.parametrize("n_vocab", SIZES)
@pytest.mark.parametrize("scale_logits", [True, False])
def test_hugging_face_gives_our_logits(
    make_gpt: Callable[..., GPT], tmp_path: Path, scale_logits: bool, n_vocab: int
) -> None:
    from transformers import GPT2LMHeadModel

    model = make_gpt(scale_logits=scale_logits, n_layer=3, n_vocab=n_vocab).eval()
    tokens = TOKENS % n_vocab
    with torch.no_grad():
        for p in model.parameters():  # not the initial values, which would hide a swap
            p.add_(0.2 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    artifact.save(model, tmp_path / "gpt")
    peer = GPT2LMHeadModel.from_pretrained(tmp_path / "gpt").eval()
    with torch.no_grad():
        torch.testing.assert_close(peer(tokens).logits, model(tokens), rtol=0, atol=1e-4)
        torch.testing.assert_close(
            artifact.load(tmp_path / "gpt")(tokens), model(tokens), rtol=0, atol=1e-4
        )


@pytest.mark.parametrize("n_vocab", SIZES)
def test_hugging_face_gives_our_tokens(
    make_gpt: Callable[..., GPT], tmp_path: Path, n_vocab: int
) -> None:
    from transformers import AutoTokenizer

    artifact.save(make_gpt(n_vocab=n_vocab), tmp_path / "gpt")
    peer = AutoTokenizer.from_pretrained(tmp_path / "gpt")
    text = "I'll  go to Liliput,\n\n天地 🙂 in 1726!"
    assert peer.encode(text) == gpt2_encoding(n_vocab).encode_ordinary(text)
    assert peer.encode(f"a{END_OF_TEXT}") == encode_prompt(
        gpt2_encoding(n_vocab), f"a{END_OF_TEXT}"
    )
    assert peer.eos_token == END_OF_TEXT
    assert peer.eos_token_id == n_vocab - 1


@pytest.mark.parametrize("n_vocab", SIZES)
def test_the_pipeline_of_transformers_writes_by_a_default_call(
    make_gpt: Callable[..., GPT], tmp_path: Path, n_vocab: int
) -> None:
    """To the end of the context at most, one text or several; greedily, what ours writes."""
    from transformers import pipeline

    model = make_gpt(n_vocab=n_vocab).eval()
    artifact.save(model, tmp_path / "gpt")
    write = pipeline("text-generation", model=str(tmp_path / "gpt"))
    prompts = ["The history of the", "I went on", END_OF_TEXT]
    (one,) = write(prompts[0])
    assert one["generated_text"].startswith(prompts[0])
    (one,) = write(prompts[0], return_tensors=True)
    assert len(one["generated_token_ids"]) <= model.config.n_ctx
    greedy = write(prompts, batch_size=3, do_sample=False, return_tensors=True)
    encoding = gpt2_encoding(n_vocab)
    params = params_with(sample={"tokens": model.config.n_ctx}).sample
    for prompt, [found] in zip(prompts, greedy, strict=True):
        ids = encode_prompt(encoding, prompt)
        written = [i for i in found["generated_token_ids"] if i != model.end_of_text]
        expected = [*ids, *generate(model, ids, 0.0, params)]
        assert len(written) > len(ids)
        assert written == [i for i in expected if i != model.end_of_text][: len(written)]


def test_a_batch_of_texts_of_other_lengths_goes_on_from_each_ones_end(
    make_gpt: Callable[..., GPT], tmp_path: Path
) -> None:
    """Outside a pipeline nothing but the folder says on which side to pad."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = make_gpt()
    with torch.no_grad():
        for p in model.parameters():  # so that it does not write one word only
            p.add_(0.2 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    artifact.save(model, tmp_path / "gpt")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "gpt")
    peer = AutoModelForCausalLM.from_pretrained(tmp_path / "gpt")
    prompts = ["The", "I went on holiday to Liliput and"]
    batch = tokenizer(prompts, padding=True, return_tensors="pt")
    found = peer.generate(**batch, max_new_tokens=5, do_sample=False)
    for prompt, row in zip(prompts, found, strict=True):
        alone = tokenizer(prompt, return_tensors="pt")
        expected = peer.generate(**alone, max_new_tokens=5, do_sample=False)
        assert row[-5:].tolist() == expected[0, -5:].tolist()


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


DAMAGES = ["absent", "cut", "flipped", "config", "sums", "sums cut", "no sums"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_folder_that_is_not_whole_is_named(
    make_gpt: Callable[..., GPT], tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "gpt"
    artifact.save(make_gpt(), folder)
    weights = folder / "model.safetensors"
    match damage:
        case "absent":
            weights.unlink()
        case "cut":
            weights.write_bytes(weights.read_bytes()[:-100])
        case "flipped":
            content = bytearray(weights.read_bytes())
            content[-1] ^= 1
            weights.write_bytes(content)
        case "config":
            config = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps(config | {"n_head": 1}))
        case "sums":
            (folder / SUMS).write_text("")
        case "sums cut":
            lines = (folder / SUMS).read_text().splitlines(keepends=True)
            (folder / SUMS).write_text("".join(lines[:-1]))
        case "no sums":
            (folder / SUMS).unlink()
    with pytest.raises(UserError, match=r"gpt is damaged: .*; copy it there again, or remove SHA"):
        artifact.load(folder)
    monkeypatch.setattr(artifact, "TRAINED", folder)  # that which DVC knows
    with pytest.raises(UserError, match=r"gpt is damaged: .*`dvc checkout train` brings it back"):
        artifact.load(folder)
    shutil.rmtree(folder)
    why = "gpt: no such folder; `dvc repro train` in the project's root makes it"
    with pytest.raises(UserError, match=why):
        artifact.load(folder)


def test_what_others_put_beside_the_model_is_let_be(
    make_gpt: Callable[..., GPT], tmp_path: Path
) -> None:
    model = make_gpt().eval()
    artifact.save(model, tmp_path / "gpt")
    whole = artifact.load(tmp_path / "gpt")
    for name in ("README.md", "pytorch_model.bin", "model-int8.safetensors", ".DS_Store"):
        (tmp_path / "gpt" / name).write_text("not ours")
    (tmp_path / "gpt/runs").mkdir()
    torch.testing.assert_close(artifact.load(tmp_path / "gpt")(TOKENS), whole(TOKENS))
    assert [f.name for f in weight_files(tmp_path / "gpt")] == [artifact.WEIGHTS]


def test_the_seal_covers_all_that_is_written(make_gpt: Callable[..., GPT], tmp_path: Path) -> None:
    artifact.save(make_gpt(), tmp_path / "gpt")
    assert {f.name for f in (tmp_path / "gpt").iterdir()} == {*artifact.FILES, SUMS}
    sealed = [line.split("  ")[1] for line in (tmp_path / "gpt" / SUMS).read_text().splitlines()]
    assert sealed == [*artifact.FILES]


def test_nothing_is_unpickled_and_no_remote_code_is_run() -> None:
    """Weights come from safetensors only; of nanoGPT's ckpt.pt, nothing but weights is read."""
    code = "\n".join(file.read_text() for file in (ROOT / "src").rglob("*.py"))
    for word in ("pickle", "torch.save"):
        assert word not in code
    assert code.count("trust_remote_code") == code.count('"trust_remote_code": False') == 1
    assert code.count("torch.load") == code.count("weights_only=True") == 1
