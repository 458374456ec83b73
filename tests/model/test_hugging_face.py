"""GPT-2s that transformers saved, with random weights: ours computes what theirs does."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel
from transformers.activations import ACT2FN

from conftest import message, params_with
from dropgpt.errors import UserError
from dropgpt.evaluation import losses, plan
from dropgpt.generation import generate
from dropgpt.model import artifact, hugging_face, tokenizer_files
from dropgpt.model.gpt import GPT
from dropgpt.randomness import seed_dropout
from dropgpt.tokens.vocabulary import N_VOCAB, entries
from dropgpt.tokens.vocabulary import merges as vocabulary_merges

TOKENS = torch.arange(128).reshape(2, 64) * 350
FOLDER = Path("pretrained/theirs")
WEIGHTS = FOLDER / "model.safetensors"

Make = Callable[..., GPT2LMHeadModel]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Saves a model of transformers in pretrained/theirs and gives it."""
    monkeypatch.chdir(tmp_path)

    def make(**changes: Any) -> GPT2LMHeadModel:
        torch.manual_seed(1)
        shape = {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 64}
        model = GPT2LMHeadModel(GPT2Config(**shape | changes)).eval()
        with torch.no_grad():
            for p in model.parameters():  # not the initial values, which would hide a swap
                p.add_(0.2 * torch.randn(p.shape))
        model.save_pretrained(FOLDER)
        return model

    return make


def load() -> GPT:
    return artifact.load(artifact.chosen(str(FOLDER), "evaluate.model"))


def refusal() -> str:
    with pytest.raises(UserError) as error:
        load()
    return message(error)


def change_config(**changes: Any) -> None:
    path = FOLDER / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    weights = change(load_file(WEIGHTS))
    save_file({name: weight.contiguous() for name, weight in weights.items()}, WEIGHTS)


def assert_same_logits(ours: GPT, theirs: GPT2LMHeadModel) -> None:
    with torch.no_grad():
        torch.testing.assert_close(ours(TOKENS), theirs(TOKENS).logits, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("activation_function", ["gelu", "gelu_new"])
@pytest.mark.parametrize("tie_word_embeddings", [True, False])
@pytest.mark.parametrize("n_inner", [None, 48])
@pytest.mark.parametrize("layer_norm_epsilon", [1e-5, 1e-3])
def test_ours_gives_the_logits_of_theirs(
    make: Make,
    activation_function: str,
    tie_word_embeddings: bool,
    n_inner: int | None,
    layer_norm_epsilon: float,
) -> None:
    theirs = make(
        activation_function=activation_function,
        tie_word_embeddings=tie_word_embeddings,
        n_inner=n_inner,
        layer_norm_epsilon=layer_norm_epsilon,
    )
    assert_same_logits(load(), theirs)


@pytest.mark.parametrize(
    ("name", "same_as"),
    [(n, "gelu") for n in get_args(hugging_face.Exact)]
    + [(n, "gelu_new") for n in get_args(hugging_face.Tanh)],
)
def test_the_names_of_activations_are_of_two_functions(name: str, same_as: str) -> None:
    x = torch.linspace(-6, 6, 1001)
    torch.testing.assert_close(ACT2FN[name](x), ACT2FN[same_as](x), rtol=0, atol=2e-6)


def test_the_two_functions_differ(make: Make) -> None:
    theirs = make(activation_function="gelu_new")
    change_config(activation_function="gelu")
    with torch.no_grad():
        assert (load()(TOKENS) - theirs(TOKENS).logits).abs().max() > 1e-3


def test_the_losses_of_a_text_are_theirs(make: Make) -> None:
    """With a head of its own, on the windows that evaluate reads."""
    theirs = make(tie_word_embeddings=False)
    lengths = np.array([1, 64, 150])
    tokens = np.random.default_rng(0).integers(0, N_VOCAB, lengths.sum()).astype(np.uint16)
    windows = plan(lengths, 64, 16)
    found = losses(load(), tokens, windows, batch_size=4)
    np.testing.assert_allclose(found, their_losses(theirs, tokens, lengths, 64, 16), atol=1e-5)


def their_losses(
    theirs: GPT2LMHeadModel, tokens: np.ndarray, lengths: np.ndarray, n_ctx: int, stride: int
) -> np.ndarray:
    """The same through transformers alone, window by window."""
    result = np.full(len(tokens), np.nan)
    stream = tokens.astype(np.int64)
    for w in plan(lengths, n_ctx, stride):
        before = N_VOCAB - 1 if w.opens else stream[w.first - 1]
        inputs = torch.tensor([[before, *stream[w.first : w.end - 1]]])
        with torch.no_grad():
            z = theirs(inputs).logits[0].double()
        nats = F.cross_entropy(z, torch.from_numpy(stream[w.first : w.end]), reduction="none")
        result[w.score : w.end] = nats[w.score - w.first :]
    return result


@pytest.mark.parametrize("tied", [True, False])
def test_greedy_generation_is_theirs(make: Make, tied: bool) -> None:
    theirs = make(tie_word_embeddings=tied)
    prompt = [10, 20, 30]
    expected = theirs.generate(torch.tensor([prompt]), max_new_tokens=40, do_sample=False)
    found = generate(load(), prompt, 0.0, params_with(sample={"tokens": 40}).sample)
    assert prompt + found == expected[0].tolist()
    assert len(set(found)) > 5


def test_their_rates_are_those_of_the_passes_with_dropout_on(make: Make) -> None:
    make(embd_pdrop=0.1, attn_pdrop=0.2, resid_pdrop=0.3)
    model = load()
    sites = model.config.dropout_sites
    assert sites.model_dump() == {
        "embedding": 0.1,
        "attention": 0.2,
        "attention_output": 0.3,
        "mlp": 0.3,
    }
    seed_dropout(7, "dropout", 0, range(len(TOKENS)), torch.device("cpu"))
    assert not torch.equal(model.train()(TOKENS), model(TOKENS))


def test_shards_are_read(make: Make) -> None:
    theirs = make()
    WEIGHTS.unlink()
    theirs.save_pretrained(FOLDER, max_shard_size="1MB")
    assert len(list(FOLDER.glob("model-*.safetensors"))) > 1
    assert_same_logits(load(), theirs)
    next(FOLDER.glob("model-*.safetensors")).unlink()
    assert "safetensors: not to be read: " in refusal()


@pytest.mark.parametrize(
    "change",
    [
        lambda w: {name.removeprefix("transformer."): x for name, x in w.items()},
        lambda w: w | {"lm_head.weight": w["transformer.wte.weight"].clone()},
        lambda w: w | {"transformer.h.0.attn.bias": torch.ones(1, 1, 64, 64).tril().bool()},
        lambda w: w | {"transformer.h.1.attn.masked_bias": torch.tensor(-1e4)},
    ],
)
def test_old_ways_to_write_the_same_weights(make: Make, change: Any) -> None:
    theirs = make()
    change_weights(change)
    assert_same_logits(load(), theirs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_float32(make: Make, dtype: torch.dtype) -> None:
    theirs = make().to(dtype)
    theirs.save_pretrained(FOLDER)
    assert_same_logits(load(), theirs.float())


def test_what_makes_no_difference_in_float32_is_read(make: Make) -> None:
    theirs = make(reorder_and_upcast_attn=True)
    assert_same_logits(load(), theirs)


def test_their_tokenizer_files_are_gpt2s(make: Make, make_gpt: Callable[..., GPT]) -> None:
    """As they write them, and as we do."""
    make()
    artifact.save(make_gpt(), Path("ours"))
    AutoTokenizer.from_pretrained("ours").save_pretrained(FOLDER)
    assert (FOLDER / "tokenizer.json").exists()
    load()
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(Path("ours") / name, FOLDER)
    (FOLDER / "vocab.json").write_text(
        json.dumps(json.loads((FOLDER / "vocab.json").read_text()), indent=1)
    )
    load()


def test_a_tokenizer_json_is_compared_entry_by_entry_and_merge_by_merge(make: Make) -> None:
    """Old ones have merges as strings."""
    make()
    vocabulary, merges = entries(), vocabulary_merges()
    path = FOLDER / "tokenizer.json"
    parting = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    right = {"model": {"vocab": vocabulary, "merges": merges}, "pre_tokenizer": parting}
    path.write_text(json.dumps(right))
    load()
    for wrong in (
        {"model": {"vocab": vocabulary | {"!": 1}, "merges": merges}},
        {"model": {"vocab": vocabulary, "merges": merges[::-1]}},
        {"model": right["model"] | {"dropout": 0.1}},
        {"model": right["model"] | {"end_of_word_suffix": "</w>"}},
        {"normalizer": {"type": "Lowercase"}},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"pre_tokenizer": parting | {"add_prefix_space": True}},
        {"pre_tokenizer": parting | {"use_regex": False}},
        {"pre_tokenizer": None},
    ):
        path.write_text(json.dumps(right | wrong))
        assert refusal().startswith(f"{path}: not GPT-2's tokenizer")


ALIASES = {
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_embd": "hidden_size",
    "n_positions": "max_position_embeddings",
}


def test_other_names_of_its_sizes_mean_what_they_mean_to_transformers(make: Make) -> None:
    make()
    path = FOLDER / "config.json"
    config = json.loads(path.read_text())
    renamed = {ALIASES.get(key, key): value for key, value in config.items()}
    path.write_text(json.dumps(renamed))
    theirs = GPT2LMHeadModel.from_pretrained(FOLDER)
    assert theirs.config.n_head == config["n_head"]
    assert_same_logits(load(), theirs)
    path.write_text(json.dumps(renamed | {"n_head": config["n_head"]}))
    load()
    path.write_text(json.dumps(renamed | {"n_head": 1}))
    assert "n_head is 1 and num_attention_heads, the same thing, " in refusal()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("vocab.json", {"a": 0}),
        ("merges.txt", "#version: 0.2\na b\n"),
        ("tokenizer.json", {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}),
        ("tokenizer.json", {"model": {"type": "Unigram", "vocab": [["a", -1.0]]}}),
    ],
)
def test_another_tokenizer_is_refused(make: Make, file: str, content: Any) -> None:
    make()
    text = content if isinstance(content, str) else json.dumps(content)
    (FOLDER / file).write_text(text)
    assert refusal().startswith(f"{FOLDER / file}: not GPT-2's tokenizer")


def test_a_smaller_vocabulary_must_say_that_it_is_gpt2s_first_entries(
    make: Make, make_gpt: Callable[..., GPT]
) -> None:
    make(vocab_size=1025)
    assert "vocab_size is 1025 in config.json, and no vocab.json says that" in refusal()
    artifact.save(make_gpt(n_vocab=1025), Path("ours"))
    AutoTokenizer.from_pretrained("ours").save_pretrained(FOLDER)
    load()
    artifact.save(make_gpt(n_vocab=1026), Path("other"))
    AutoTokenizer.from_pretrained("other").save_pretrained(FOLDER)
    assert "not the first 1024 entries of GPT-2's tokenizer and <|endoftext|>" in refusal()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
        ({"scale_attn_weights": False}, "scale_attn_weights is False"),
        ({"add_cross_attention": True}, "add_cross_attention is True"),
        ({"auto_map": {"AutoModelForCausalLM": "x.Y"}}, "auto_map names code of the model's own"),
        ({"quantization_config": {"bits": 8}}, "quantization_config: input should be none"),
        ({"model_type": "gpt_neo"}, "model_type is 'gpt_neo': input should be 'gpt2'"),
        ({"activation_function": "relu"}, "activation_function is 'relu': input should be 'gelu'"),
        ({"activation_function": "quick_gelu"}, "activation_function is 'quick_gelu'"),
        (
            {"vocab_size": 50304},
            "vocab_size is 50304: input should be less than or equal to 50257; `model.resize_token",
        ),
        ({"n_head": 5}, "n_embd 32 is not divisible by n_head 5"),
        ({"n_layer": "2"}, "n_layer is '2'"),
        (
            {"n_positions": 10**12},
            "n_positions is 1000000000000: input should be",
        ),
        ({"n_embd": 10**30}, "n_embd is 1000000000000000000000000000000: input"),
        ({"attn_pdrop": 1.0}, "attn_pdrop is 1.0: input should be less than 1"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(
    make: Make, changes: dict[str, Any], said: str
) -> None:
    make()
    change_config(**changes)
    line = refusal()
    assert line.startswith("pretrained/theirs/config.json: ")
    assert said in line


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w | {"transformer.extra": torch.ones(1)}, "the tensor extra is no part of"),
        (
            lambda w: {n: x for n, x in w.items() if not n.endswith("h.1.ln_2.bias")},
            "no tensor h.1.ln_2.bias",
        ),
        (
            lambda w: w | {"transformer.h.0.mlp.c_fc.weight": torch.ones(32, 100)},
            "the tensor h.0.mlp.c_fc.weight is [32, 100], but [32, 128] by config.json",
        ),
        (
            lambda w: w | {"transformer.wte.weight": torch.ones(50304, 32)},
            "the tensor wte.weight is [50304, 32], but [50257, 32] by config.json",
        ),
        (
            lambda w: w | {"transformer.ln_f.bias": torch.ones(32, dtype=torch.int8)},
            "transformer.ln_f.bias is torch.int8: only dense floats",
        ),
        (
            lambda w: w | {"transformer.ln_f.bias": torch.full((32,), torch.nan)},
            "model.safetensors: transformer.ln_f.bias holds what is no finite number in float32",
        ),
        (
            lambda w: w | {"transformer.ln_f.bias": torch.full((32,), 1e300, dtype=torch.float64)},
            "transformer.ln_f.bias holds what is no finite number in float32",
        ),
        (lambda w: w | {"ln_f.bias": torch.ones(32)}, "there are two tensors for ln_f.bias"),
        (lambda w: w | {"lm_head.weight": torch.ones(N_VOCAB, 32)}, "lm_head.weight is not wte."),
    ],
)
def test_other_tensors_than_config_json_says_are_named(make: Make, change: Any, said: str) -> None:
    make()
    change_weights(change)
    line = refusal()
    assert line.startswith("pretrained/theirs")
    assert said in line


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_layer": 4096}, "no tensor h.2.ln_1.weight"),
        ({"n_positions": 1 << 24, "n_embd": 1 << 24}, "the tensor wte.weight is [50257, 32], but"),
        ({"n_inner": 1 << 24}, "h.0.mlp.c_fc.weight is [32, 128], but [32, 16777216] by config"),
    ],
)
def test_sizes_that_no_memory_holds_are_told_before_any_is_taken(
    make: Make, changes: dict[str, int], said: str
) -> None:
    make()
    change_config(**changes)
    assert said in refusal()


def test_too_little_memory_is_a_line(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    make()
    monkeypatch.setattr(hugging_face, "load_file", lambda file: bytes(1 << 62))
    assert refusal() == (
        "pretrained/theirs: out of memory; its weights in float32 take more than there is"
    )


def test_an_untied_model_without_its_head_is_refused(make: Make) -> None:
    make()
    change_config(tie_word_embeddings=False)
    assert "no tensor lm_head.weight" in refusal()


def test_weights_that_could_run_code_are_not_opened(make: Make) -> None:
    make()
    WEIGHTS.rename(FOLDER / "pytorch_model.bin")
    line = refusal()
    assert "only pytorch_model.bin" in line
    command = "GPT2LMHeadModel.from_pretrained('pretrained/theirs').save_pretrained("
    assert f"`{command}'pretrained/theirs')`" in line


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345678\n"


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("config.json", None, "config.json: not to be read"),
        ("config.json", b"{", "config.json: not JSON"),
        ("config.json", b"[" * 100_000, "config.json: not JSON"),
        ("config.json", b"[]", "config.json: not a JSON object"),
        ("config.json", b"\xff", "config.json: not to be read"),
        ("model.safetensors", None, "no model.safetensors; copy there what `save_pretrained`"),
        ("model.safetensors", b"cut", "model.safetensors: not to be read"),
        (
            "model.safetensors",
            LFS,
            "model.safetensors only stands in for a file that is elsewhere: ",
        ),
        ("tokenizer.json", LFS, "elsewhere: `git lfs pull` brings it"),
        ("merges.txt", b"\xff", "merges.txt: not to be read"),
        ("tokenizer.json", b"", "tokenizer.json: not JSON"),
        ("SHA256SUMS", b"", "theirs is damaged: SHA256SUMS is not what train wrote there; copy"),
    ],
)
def test_a_damaged_file_is_named(make: Make, file: str, content: bytes | None, said: str) -> None:
    make()
    if content is None:
        (FOLDER / file).unlink()
    else:
        (FOLDER / file).write_bytes(content)
    assert said in refusal()


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_to_copy_again_what_may_not_be_read_is_no_advice(
    make: Make, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    check_here = hugging_face.check_here

    def refusing(path: Path) -> None:
        if path.name == file:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        check_here(path)

    make()
    for module in hugging_face, tokenizer_files:
        monkeypatch.setattr(module, "check_here", refusing)
    with pytest.raises(PermissionError):
        load()


def test_an_index_that_is_none_is_named(make: Make) -> None:
    make()
    WEIGHTS.unlink()
    (FOLDER / "model.safetensors.index.json").write_text('{"weight_map": []}')
    assert "index.json: weight_map is []" in refusal()


def test_a_folder_of_ours_keeps_its_seal_in_pretrained(
    make_gpt: Callable[..., GPT], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = make_gpt(dropout=0.2, mlp=0.4).eval()
    artifact.save(model, FOLDER)
    found = load()
    torch.testing.assert_close(found(TOKENS[:, :32]), model(TOKENS[:, :32]), rtol=0, atol=1e-4)
    assert found.config.dropout_sites.mlp == 0.4
    WEIGHTS.write_bytes(WEIGHTS.read_bytes()[:-4] + bytes(4))
    assert "damaged: model.safetensors is not what train wrote there; copy it there" in refusal()


def test_a_folder_that_dvc_does_not_watch_is_refused(make: Make, tmp_path: Path) -> None:
    make()
    Path("other").mkdir()
    shutil.copytree(FOLDER, "other/theirs")
    Path("pretrained/linked").symlink_to("../other/theirs")
    paths = ["other/theirs", "pretrained/../other/theirs", "pretrained/linked", "pretrained"]
    for path in [*paths, str(tmp_path / FOLDER), "models/gpt"]:
        with pytest.raises(UserError) as error:
            artifact.load(artifact.chosen(path, "sample.model"))
        line = message(error)
        assert line.startswith(f"params.yaml: sample.model is {path!r}: DVC would not notice")
        assert "copy the folder into pretrained/" in line
    for path in ("pretrained/none", "gpt2"):  # as the hub names it
        with pytest.raises(UserError) as error:
            artifact.chosen(path, "sample.model")
        line = f"sample.model is {path!r}: no such folder; docs/other-models.md says how to fetch"
        assert line in message(error)
    # Links to files DVC follows.
    shutil.move(WEIGHTS, "other/weights")
    WEIGHTS.symlink_to("../../other/weights")
    load()
