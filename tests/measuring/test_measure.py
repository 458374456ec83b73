"""`dropgpt measure`: every model's losses are those that its own library finds."""

import contextlib
import errno
import json
import math
import os
import runpy
import shutil
import subprocess
from collections.abc import Callable
from functools import partial, wraps
from itertools import product
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from clone import DROPGPT, environment
from conftest import ROOT, tiny_model
from dropgpt.arguments import parsed
from dropgpt.commands import compare, measure
from dropgpt.comparison import result_file
from dropgpt.comparison.comparable import check_comparable
from dropgpt.comparison.result_file import Measured, read
from dropgpt.corpus.document import Document
from dropgpt.errors import UserError
from dropgpt.evaluation import plan
from dropgpt.machine import provenance, threads
from dropgpt.measuring import transformers_model
from dropgpt.model import artifact
from dropgpt.model.gpt import initialised
from dropgpt.params import load
from dropgpt.perplexity import perplexity
from dropgpt.tokens.vocabulary import N_VOCAB, gpt2_encoding

TEXTS = ["One.", *(ROOT / "README.md").read_text().split("\n## ")[:2], "天地 </s> 🙂 " * 30]
SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZE |= {"intermediate_size": 48, "max_position_embeddings": 64, "initializer_range": 0.2}
Losses = Callable[[list[int]], torch.Tensor]  # of the row that follows the first token


def run(*arguments: str | Path) -> None:
    """`dropgpt measure ...`, in this process."""
    values = parsed(["measure", *map(str, arguments)])
    values.pop("command")
    measure.run(**values)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Without a project in it; a text is an item of texts.json."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.json").write_text(json.dumps(TEXTS))
    before = threads.number(), torch.get_num_threads()
    yield tmp_path
    threads.set_number(before[0])
    torch.set_num_threads(before[1])


def tokenizer(**changes: Any) -> PreTrainedTokenizerFast:
    """A byte-level BPE of the texts, with a token for either end."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    if changes.pop("lowercase", False):
        bpe.normalizer = normalizers.Lowercase()
    bpe.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<s>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    ends = {"bos_token": "<s>", "eos_token": "</s>"} | changes
    return PreTrainedTokenizerFast(tokenizer_object=bpe, **ends)


def save(
    kind: str, folder: Path, n_positions: int = 64, n_vocab: int | None = None, **changes: Any
) -> Any:
    """A random model of transformers, with weights that matter, and its tokenizer."""
    own = tokenizer(**changes)
    torch.manual_seed(1)
    size = SIZE
    if kind == "GPT2":
        size = {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": n_positions}
        size |= {"initializer_range": 0.2}
    if kind == "Mpt":
        size = {"n_layers": 2, "n_heads": 2, "d_model": 32, "max_seq_len": n_positions}
    model_class = {
        "Llama": "LlamaForCausalLM",
        "GPTNeoX": "GPTNeoXForCausalLM",
        "GPT2": "GPT2LMHeadModel",
        "Bert": "BertLMHeadModel",
        "Mpt": "MptForCausalLM",
        "Roberta": "RobertaForCausalLM",
    }[kind]
    size = size | ({"is_decoder": True, "pad_token_id": 1} if kind == "Roberta" else {})
    config = getattr(transformers, f"{kind}Config")(vocab_size=n_vocab or len(own), **size)
    model = getattr(transformers, model_class)(config).eval()
    model.save_pretrained(folder)
    own.save_pretrained(folder)
    return model


def expected(
    ids: list[list[int]],
    begin: int,
    model: Callable[[torch.Tensor], torch.Tensor],
    stride: int,
    each_window: bool = False,
) -> list[float]:
    """The loss of each document, from the logits of `model` over one window at a time.

    Each of them begins with the token `begin`, or only the first of a document.
    """
    found = []
    for own in ids:
        nats = 0.0
        for w in plan(np.array([len(own)]), 64, stride):
            row = torch.tensor([[begin, *own][w.first : w.end]])
            if each_window:
                row[0, 0] = begin
            with torch.no_grad():
                logits = model(row)[0, w.score - w.first :].double()
            targets = torch.tensor(own[w.score : w.end])
            nats += F.cross_entropy(logits, targets, reduction="sum").item()
        found.append(nats)
    return found


def nats(file: str = "o.json") -> list[float]:
    return [document["nats"] for document in json.loads(Path(file).read_text())["documents"]]


def measured(file: str = "o.json") -> dict[str, Any]:
    return json.loads(Path(file).read_text())["measured"]


@pytest.mark.parametrize(("kind", "stride"), [("Llama", 24), ("GPTNeoX", 64), ("GPT2", 24)])
def test_losses_are_those_of_transformers(
    kind: str, stride: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """</s> that stands in a text is text. The losses of a document add up to 1e-5 a token.

    Each window begins with <s>, which is not the end: of what it measures none is lost to it.
    """
    model = save(kind, Path("theirs"))
    run(
        "theirs",
        "texts.json",
        "--stride",
        str(stride),
        "--output",
        "o.json",
        "--made-by",
        "train.seed=7",
    )
    own = tokenizer()
    begin, end = own.convert_tokens_to_ids(["<s>", "</s>"])
    ids = [[*own.encode(text, split_special_tokens=True), end] for text in TEXTS]
    assert max(own.count(end) for own in ids) == 1
    wanted = expected(ids, begin, lambda row: model(row).logits, stride, each_window=True)
    lengths = np.array(list(map(len, ids)))
    assert np.abs(np.array(nats()) - wanted).max() / lengths.max() < 1e-5
    np.testing.assert_allclose(np.array(nats()) / lengths, np.array(wanted) / lengths, atol=1e-5)
    result = json.loads(Path("o.json").read_text())
    assert [document["tokens"] for document in result["documents"]] == lengths.tolist()
    assert result["made_by"]["train.seed"] == 7
    assert (measured()["begins_with"], measured()["end_of_text"]) == ("<s>", True)
    assert measured()["lost_bytes"] == 0
    bits = sum(wanted) / np.log(2) / sum(len(text.encode()) for text in TEXTS)
    said = capsys.readouterr().out
    assert f"theirs: {bits:.3f} bits per byte (95% interval " in said
    assert "tokens/s" in said
    assert "note" not in said


def test_the_context_may_be_shorter_and_cross_documents_and_the_end_left_out() -> None:
    model = save("Llama", Path("theirs"), bos_token=None)
    flags = ["--context", "64", "--stride", "64", "--across-documents", "--no-end-of-text"]
    run("theirs", "texts.json", *flags, "--output", "o.json")
    own = tokenizer()
    ids = [own.encode(text, split_special_tokens=True) for text in TEXTS]
    end = own.convert_tokens_to_ids("</s>")  # which begins a document where nothing else does
    stream = [token for one in ids for token in one]
    (whole,) = expected([stream], end, lambda row: model(row).logits, 64)
    assert sum(nats()) == pytest.approx(whole, rel=1e-6)
    assert (
        measured() | {"versions": {}}
        == Measured(
            stride=64,
            context=64,
            across_documents=True,
            end_of_text=False,
            begins_with="</s>",
            tokenizer="TokenizersBackend of theirs",
            dtype="float32",
        ).model_dump()
    )
    run("theirs", "texts.json", "--context", "16", "--stride", "8", "--output", "short.json")
    assert sum(nats("short.json")) != pytest.approx(whole, rel=1e-3)


def test_a_bos_that_is_the_eos_stands_before_a_document_only() -> None:
    model = save("Llama", Path("theirs"), bos_token="</s>")
    run("theirs", "texts.json", "--stride", "24", "--output", "o.json")
    own = tokenizer()
    end = own.convert_tokens_to_ids("</s>")
    ids = [[*own.encode(text, split_special_tokens=True), end] for text in TEXTS]
    wanted = expected(ids, end, lambda row: model(row).logits, 24)
    assert nats() == pytest.approx(wanted, rel=1e-5)


def checkpoint(
    n_vocab: int, bias: bool, prefix: str, n_ctx: int = 64
) -> tuple[dict[str, Any], Any]:
    """What nanoGPT's train.py saves of a random model, and transformers' GPT-2 that is the same."""
    arguments = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": n_ctx, "bias": bias}
    config = transformers.GPT2Config(
        vocab_size=n_vocab,
        n_layer=2,
        n_head=2,
        n_embd=32,
        n_positions=n_ctx,
        activation_function="gelu",
        initializer_range=0.2,
    )
    torch.manual_seed(2)
    same = transformers.GPT2LMHeadModel(config).eval()
    state = {}
    with torch.no_grad():
        for name, p in same.named_parameters():
            p.add_(0.1 * torch.randn(p.shape))
            if name.endswith("bias") and not bias:
                p.zero_()
                continue
            linear = p.ndim == 2 and ".h." in name  # theirs is transposed
            state[prefix + name] = (p.T if linear else p).detach().clone()
    state[f"{prefix}lm_head.weight"] = state[f"{prefix}transformer.wte.weight"]
    saved = {
        "model": state,
        "optimizer": torch.optim.AdamW(same.parameters()).state_dict(),
        "model_args": arguments | {"vocab_size": n_vocab, "dropout": 0.2},
        "iter_num": 2000,
        "best_val_loss": torch.tensor(3.25),
        "config": {"out_dir": "out", "learning_rate": 6e-4, "compile": True, "always": None},
    }
    return saved, same


@pytest.mark.parametrize(
    ("n_vocab", "bias", "prefix"),
    [(50304, False, "_orig_mod."), (N_VOCAB, True, ""), (N_VOCAB, True, "module._orig_mod.")],
)
def test_losses_of_nanogpt(n_vocab: int, bias: bool, prefix: str) -> None:
    saved, same = checkpoint(n_vocab, bias, prefix)
    torch.save(saved, "ckpt.pt")
    run("ckpt.pt", "texts.json", "--stride", "32", "--output", "o.json")
    ids = [[*gpt2_encoding().encode(t, disallowed_special=()), N_VOCAB - 1] for t in TEXTS]
    wanted = expected(ids, N_VOCAB - 1, lambda row: same(row).logits, 32)
    lengths = list(map(len, ids))
    np.testing.assert_allclose(
        np.array(nats()) / lengths, np.array(wanted) / lengths, atol=1e-5, rtol=0
    )
    made_by = json.loads(Path("o.json").read_text())["made_by"]
    assert (made_by["iter_num"], made_by["config.learning_rate"]) == (2000, 6e-4)
    assert (made_by["model_args.dropout"], made_by["config.always"]) == (0.2, None)


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    """The functions of the example; its own files are in a folder of their own."""
    with TemporaryDirectory() as place, contextlib.chdir(place):
        return runpy.run_path(str(ROOT / "examples/result_files.py"))


def test_the_example_of_nanogpt_writes_what_measure_finds(example: dict[str, Any]) -> None:
    saved, same = checkpoint(N_VOCAB, True, "", n_ctx=128)
    torch.save(saved, "ckpt.pt")
    run("ckpt.pt", "texts.json", "--output", "o.json")

    def model(rows: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, None]:
        assert targets.shape == rows.shape
        return same(rows).logits, None

    known = {"device": "cpu", "learning_rate": 6e-4, "out_dir": "out", "seed": 1337}
    example["of_nanogpt"](model, gpt2_encoding(), TEXTS, "nano.json", known)
    assert nats("nano.json") == pytest.approx(nats(), rel=1e-6)
    check_comparable([read("o.json"), read("nano.json")])
    assert read("nano.json").made_by["train.seed"] == 1337
    assert "out_dir" not in read("nano.json").made_by


def autocast(forward: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(forward)
    def wrapped(*arguments: Any, **more: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return forward(*arguments, **more)

    return wrapped


def test_the_example_of_the_trainer_writes_what_measure_finds(example: dict[str, Any]) -> None:
    """In float32, too, where it was trained in bfloat16, as accelerate has it."""
    save("GPT2", Path("theirs"), n_positions=128).bfloat16().save_pretrained("theirs")
    run("theirs", "texts.json", "--output", "o.json")
    options = SimpleNamespace(seed=5, learning_rate=1e-3)
    model = transformers.AutoModelForCausalLM.from_pretrained("theirs", dtype="bfloat16")
    model.forward = autocast(model.forward)

    def unwrap_model(wrapped: Any, keep_fp32_wrapper: bool) -> Any:
        assert not keep_fp32_wrapper
        wrapped.forward = wrapped.forward.__wrapped__
        return wrapped

    accelerator = SimpleNamespace(unwrap_model=unwrap_model)
    trainer = SimpleNamespace(model=model, accelerator=accelerator, args=options)
    trainer.processing_class = tokenizer()
    example["of_trainer"](trainer, TEXTS, "trainer.json")
    assert nats("trainer.json") == pytest.approx(nats(), rel=1e-6)
    check_comparable([read("o.json"), read("trainer.json")])
    assert read("trainer.json").made_by["train.seed"] == 5


def test_without_params_yaml_the_settings_are_its_own() -> None:
    stated = load(ROOT / "params.yaml").evaluate
    assert stated == measure.EVALUATE


def test_how_texts_are_read_may_be_said() -> None:
    """Without a project, and otherwise than it has it."""
    save("Llama", Path("theirs"))
    Path("a.csv").write_text("n,body\n1,One.\n2,Two.\n")
    Path("a.txt").write_text("One\n\n\nTwo\t\tThree<|endoftext|>Four")

    def parts(file: str, *arguments: str) -> list[int]:
        run("theirs", file, "--stride", "24", *arguments, "--output", "o.json")
        return [
            document["bytes"] for document in json.loads(Path("o.json").read_text())["documents"]
        ]

    for _ in range(2):
        assert parts("a.csv", "--text-column", "body") == [4, 4]
        assert parts("a.txt", "--separator", r"\n\n\n") == [3, 27]
        assert parts("a.txt", "--separator", r"\t\t") == [9, 22]
        assert parts("a.txt", "--separator", "") == [33]
        shutil.copy(ROOT / "params.yaml", ".")
    assert parts("a.txt") == [16, 4]


def test_what_a_tokenizer_does_not_give_back_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    save("Llama", Path("theirs"), lowercase=True)
    Path("a.txt").write_text("ÄÖ and One, ok", encoding="utf-8")
    Path("b.txt").write_text("ÄÖ and One, ok?", encoding="utf-8")
    run("theirs", "a.txt", "b.txt", "--stride", "64", "--output", "twice.json")
    assert measured("twice.json")["lost_bytes"] == 10
    run("theirs", "a.txt", "a.txt", "--stride", "64", "--output", "once.json")
    assert len(nats("once.json")) == 1  # a copy is no other document
    assert (
        "left out as copies of earlier documents of the TEXTs: 1 document; "
        in capsys.readouterr().err
    )
    run("theirs", "a.txt", "--stride", "64", "--output", "o.json")
    said = " ".join(capsys.readouterr().out.split())
    assert "of the texts at least 5 bytes are not in what the tokenizer gives back" in said
    assert measured()["lost_bytes"] == 5
    assert read("o.json").notes == ("o.json: its tokens lack 5 bytes of the texts, at least",)


@pytest.mark.parametrize(
    ("text", "again", "lost"),
    [
        ("a.b  c", "a . b c", 1),  # spaces that were put elsewhere are not the lost one
        ("a . b c", "a . b c", 0),
        ("one\n\ntwo", "one two", 2),
        ("one", " one", 0),
        (" one ", "one", 2),
        ("\u3000a", " a", 3),
        ("Ä b", "ä b", 2),
        ("a[UNK]  c", "a c", 6),  # at least
    ],
)
def test_white_space_is_lost_where_it_stood(text: str, again: str, lost: int) -> None:
    assert measure._lost(text, again) == lost


@pytest.mark.parametrize(
    ("nats", "sizes"),
    [([30.0, 55.0, 0.5, 12.0], [20, 44, 0, 9]), ([1.0, 70.0, 90.0], [1, 1, 1]), ([90.0], [1])],
)
def test_the_interval_is_that_of_the_perplexity(nats: list[float], sizes: list[int]) -> None:
    documents = pd.DataFrame(
        {"nats": nats, "bytes": sizes, "tokens": 1, "source": range(len(nats))}
    )
    found = perplexity(documents.nats, documents.bytes, documents.source)
    ends = [found[f"perplexity_95_{end}"] for end in ("low", "high")]
    between = " to ".join(f"{math.log2(end):.3f}" for end in ends if end)
    how = Measured(
        stride=1,
        context=1,
        across_documents=False,
        end_of_text=False,
        tokenizer="a",
        dtype="float32",
    )
    expected = between or "unknown, of one document"
    assert f"(95% interval {expected})" in measure.told("it", documents, how)[0]


def cut_otherwise(folder: Path, tokenizer_class: str | None, pre_tokenizer: Any) -> Tokenizer:
    """Let tokenizer.json cut a text in another way than a class of transformers would.

    Without a class the files name no tokens for the ends, either, as GPT-2's on the hub.
    """
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    own.pre_tokenizer = pre_tokenizer
    own.add_special_tokens(["<|endoftext|>"])
    own.save(str(folder / "tokenizer.json"))
    path = folder / "tokenizer_config.json"
    stated = json.loads(path.read_text()) | {"tokenizer_class": tokenizer_class}
    path.write_text(json.dumps(stated if tokenizer_class else {"model_max_length": 64}))
    own.encode_special_tokens = True
    return own


BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)
THREES = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Split(Regex(r"\p{L}{1,3}|\p{N}|[^\p{L}\p{N}]+"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
)


@pytest.mark.parametrize(
    ("kind", "tokenizer_class", "pre_tokenizer", "ends"),
    [
        ("GPT2", "GPT2Tokenizer", THREES, ["<s>", "</s>"]),
        ("GPT2", None, THREES, ["<|endoftext|>"] * 2),
        ("GPTNeoX", "GPTNeoXTokenizerFast", THREES, ["<s>", "</s>"]),
        ("GPT2", "CodeGenTokenizer", THREES, ["<s>", "</s>"]),
        ("Llama", "Qwen2Tokenizer", BYTES, ["<s>", "</s>"]),
        ("Llama", "LlamaTokenizerFast", THREES, ["<s>", "</s>"]),
    ],
)
def test_tokens_are_those_of_tokenizer_json(
    kind: str, tokenizer_class: str | None, pre_tokenizer: Any, ends: list[str]
) -> None:
    """Whatever class its config names; the ends stay those that the class knows."""
    save(kind, Path("theirs"), n_vocab=401)
    own = cut_otherwise(Path("theirs"), tokenizer_class, pre_tokenizer)
    reader = transformers_model.read("theirs", torch.device("cpu"))
    begin, end = map(own.token_to_id, ends)
    assert reader.begin == (begin, ends[0])
    found = [ids.tolist() for _, ids in reader.encode([Document(t, t, t) for t in TEXTS], True)]
    assert found == [[*own.encode(t, add_special_tokens=False).ids, end] for t in TEXTS]


def test_a_revision_is_of_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Model and tokenizer both, as the hub's client keeps them."""
    place = folder / "hub/models--own--it"
    (place / "refs").mkdir(parents=True)
    for name, kind, commit in [("main", "GPT2", "a" * 40), ("v1", "Llama", "b" * 40)]:
        save(kind, Path(name), n_vocab=401)
        cut_otherwise(Path(name), "Qwen2Tokenizer", THREES if name == "v1" else BYTES)
        shutil.copytree(name, place / "snapshots" / commit)
        (place / "refs" / name).write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "hub"))
    for name, given in [("main", []), ("v1", ["--revision", "v1"])]:
        run("own/it", "texts.json", "--context", "64", *given, "--output", "o.json")
        run(name, "texts.json", "--context", "64", "--output", "same.json")
        assert nats() == nats("same.json")
        assert read("o.json").made_by["revision"] == ("b" if given else "a") * 40
    with pytest.raises(UserError, match="own/it: no such folder, and not to be had from the hub"):
        run("own/it", "texts.json", "--revision", "v2")


def test_a_folder_of_transformers_with_checksums_of_its_own() -> None:
    save("Llama", Path("theirs"))
    Path("theirs/SHA256SUMS").write_text(f"{'0' * 64}  config.json\n")
    run("theirs", "texts.json", "--stride", "24", "--output", "o.json")
    assert measured()["tokenizer"] == "TokenizersBackend of theirs"


def test_positions_that_begin_behind_padding_are_fewer() -> None:
    """Of RoBERTa's 64, the first two are for padding."""
    save("Roberta", Path("theirs"))
    run("theirs", "texts.json", "--stride", "24", "--output", "o.json")
    assert measured()["context"] == 62


def test_mpt_says_its_context_in_its_own_word() -> None:
    save("Mpt", Path("theirs"))
    run("theirs", "texts.json", "--stride", "24", "--output", "o.json")
    assert measured()["context"] == 64
    with pytest.raises(UserError, match="theirs reads 64 tokens at most: --context 65 is more"):
        run("theirs", "texts.json", "--stride", "24", "--context", "65")


def test_a_window_that_a_model_cannot_read_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As one that is longer than a model reads that does not say how long that is."""
    save("Mpt", Path("theirs"))
    monkeypatch.setattr(transformers_model, "_n_ctx", lambda *_: None)
    with pytest.raises(UserError, match="theirs: transformers cannot run it: The size of tensor"):
        run("theirs", "texts.json", "--context", "65")


@pytest.mark.parametrize(
    "theirs",
    [
        "prepare: {split: 0.2}\ntrain: {lr: 0.1}\n",
        "train: !!python/object:models.Config {lr: 0.1}\n",
        "train:\n\t{{ template }}\n",
        "train: {lr: 1}\ntrain: {lr: 2}\n",
        "",
    ],
)
def test_in_another_project_the_settings_are_its_own(
    theirs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save("Llama", Path("theirs"))
    Path("params.yaml").write_text(theirs)
    run("theirs", "texts.json", "--context", "64", "--output", "o.json")
    assert capsys.readouterr().out.startswith("note: params.yaml is of another project: ")
    assert measured()["stride"] == measure.EVALUATE.stride


def test_a_mistake_in_our_parameters_is_told() -> None:
    """Where they are no YAML, too."""
    save("Llama", Path("theirs"))
    Path("params.yaml").write_text((ROOT / "params.yaml").read_text() + "\ttrain:\n")
    with pytest.raises(UserError, match=r"params\.yaml: not YAML"):
        run("theirs", "texts.json")


def test_a_result_that_cannot_be_written_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a disk that has become full in the hours of a large model."""
    save("Llama", Path("theirs"))
    run("theirs", "texts.json", "--stride", "24", "--output", "o.json")

    def full(path: Path, value: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(result_file, "write_json", full)
    capsys.readouterr()
    with pytest.raises(UserError, match=r"p\.json cannot be written: No space left on device"):
        run("theirs", "texts.json", "--stride", "24", "--output", "p.json")
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == json.loads(
        Path("o.json").read_text()
    )


def test_runs_of_nanogpt_pair_by_what_made_them(capsys: pytest.CaptureFixture[str]) -> None:
    """Each has a file, a folder, weights and a best iteration of its own, which are no parameters.

    Nor is it one whether a training was stopped and went on.
    """
    for number, (rate, seed) in enumerate(product((0.0, 0.2), (1, 2))):
        saved, _ = checkpoint(N_VOCAB, True, "")
        torch.manual_seed(number)
        saved["model"]["transformer.wte.weight"] += 0.01 * torch.randn(N_VOCAB, 32)
        saved["model_args"]["dropout"] = rate
        saved["config"] |= {"out_dir": f"out-{number}", "grad_clip": math.inf}
        saved["config"] |= saved["model_args"]  # as its train.py has them in both
        saved["config"]["init_from"] = "resume" if rate else "scratch"
        saved["iter_num"] += number
        torch.save(saved, f"{number}.pt")
        made_by = ["--made-by", f"train.seed={seed}", "--made-by", "run=2024-13-01"]
        run(f"{number}.pt", "texts.json", "--stride", "32", "--output", f"{number}.json", *made_by)
    assert read("0.json").made_by["config.grad_clip"] == "inf"
    assert "config.dropout" not in read("0.json").made_by
    assert read("0.json").made_by["run"] == "2024-13-01"
    capsys.readouterr()
    words = ["compare", *(f"{n}.json" for n in range(4)), "--by", "model_args.dropout", "--json"]
    values = parsed(words)
    values.pop("command")
    compare.run(**values)
    groups = json.loads(capsys.readouterr().out)["groups"]
    assert [(one["group"], one["seeds"]) for one in groups] == [("0.0", 2), ("0.2", 2)]
    assert groups[1]["difference"] is not None


def bert(folder: Path) -> None:
    save("Bert", folder)


def untrained_bert(folder: Path) -> None:
    """What follows changes little in it, as all else does."""
    with pytest.MonkeyPatch.context() as changed:
        changed.setitem(SIZE, "initializer_range", 0.01)
        save("Bert", folder)


def no_head(folder: Path) -> None:
    save("Llama", folder).model.save_pretrained(folder)


def no_ends(folder: Path) -> None:
    save("Llama", folder)
    tokenizer(bos_token=None, eos_token=None).save_pretrained(folder)


def no_end(folder: Path) -> None:
    save("Llama", folder)
    tokenizer(eos_token=None).save_pretrained(folder)


def bos_beyond(folder: Path) -> None:
    save("Llama", folder)
    tokenizer(bos_token="<begin>").save_pretrained(folder)


def eos_beyond(folder: Path) -> None:
    save("Llama", folder)
    tokenizer(eos_token="<end>").save_pretrained(folder)


def xlnet(folder: Path) -> None:
    """It says that it has -1 positions."""
    size = {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 48, "initializer_range": 0.2}
    kind = transformers.XLNetConfig(vocab_size=len(tokenizer()), **size)
    transformers.XLNetLMHeadModel(kind).save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def with_adapter(folder: Path) -> None:
    save("Llama", folder)
    (folder / "adapter_config.json").write_text("{}")


def pieces_alone(folder: Path) -> None:
    save("Llama", folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    (folder / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>")


def other_tokens(folder: Path) -> None:
    saved, _ = checkpoint(65, False, "")
    torch.save(saved, folder)


def lacking(folder: Path) -> None:
    saved, _ = checkpoint(N_VOCAB, True, "")
    del saved["model"]["transformer.h.1.ln_2.bias"]
    torch.save(saved, folder)


def weights_only(folder: Path) -> None:
    torch.save({"model": {"a": torch.zeros(1)}}, folder)


def bare_weights(folder: Path) -> None:
    torch.save({"transformer.wte.weight": torch.zeros(2, 2)}, folder)


def a_list(folder: Path) -> None:
    torch.save([torch.zeros(2, 2)], folder)


def not_a_number(folder: Path) -> None:
    model = save("Llama", folder)
    model.lm_head.weight.data[3] = math.nan
    model.save_pretrained(folder)


def nano(name: str, change: Callable[[Any], torch.Tensor]) -> Callable[[Path], None]:
    """Makes a ckpt.pt with another tensor of that name."""

    def make(folder: Path) -> None:
        saved, _ = checkpoint(N_VOCAB, True, "")
        saved["model"][name] = change(saved["model"].get(name))
        torch.save(saved, folder)

    return make


def nano_of_sizes(**sizes: int) -> Callable[[Path], None]:
    """Makes a ckpt.pt that says others of its model."""

    def make(folder: Path) -> None:
        saved, _ = checkpoint(N_VOCAB, True, "")
        torch.save(saved | {"model_args": saved["model_args"] | sizes}, folder)

    return make


def config(**changes: Any) -> Callable[[Path], None]:
    """Makes a GPT-2 of transformers whose config.json says something else."""

    def make(folder: Path) -> None:
        save("GPT2", folder)
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return make


def cut(folder: Path) -> None:
    save("GPT2", folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def nothing_in_it(folder: Path) -> None:
    save("GPT2", folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").touch()


def torn(folder: Path) -> None:
    """One of ours."""
    artifact.save(initialised(tiny_model(), 1), folder)
    (folder / provenance.FILE).write_text('{"train": ')


def some_bytes(folder: Path) -> None:
    folder.write_bytes(b"hello, world")


def pointer(folder: Path) -> None:
    folder.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\n")


def only_a_pointer(file: str) -> Callable[[Path], None]:
    """As `git clone` of a model leaves it where there is no git-lfs."""

    def make(folder: Path) -> None:
        save("GPT2", folder)
        (folder / "model.safetensors").rename(folder / "a.safetensors")
        pointer(folder / file)

    return make


def more_than_tensors(folder: Path) -> None:
    save("Llama", folder)
    (folder / "model.safetensors").unlink()
    torch.save({"of a class of theirs": Path("a")}, folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("make", "arguments", "why"),
    [
        (only_a_pointer("model.safetensors"), [], "brings it"),
        (
            only_a_pointer("tokenizer.json"),
            [],
            r"tokenizer\.json only stands in .*: `git lfs pull`",
        ),
        (more_than_tensors, [], "its weights holds more than tensors, or is damaged"),
        (bert, [], "it sees the tokens that it should predict"),
        (untrained_bert, [], "it sees the tokens that it should predict"),
        (no_head, [], "it has no lm_head.weight as a LlamaForCausalLM needs it"),
        (no_ends, [], "no token that begins or ends a document"),
        (no_end, [], r"no token that ends a document \(eos_token\): --no-end-of-text leaves"),
        (bos_beyond, [], "more tokens than the model, 400: '<begin>' is number 400"),
        (eos_beyond, [], "more tokens than the model, 400: '<end>' is number 400"),
        (Path.mkdir, [], "transformers cannot open it: "),
        (other_tokens, [], "vocab_size is 65, so its tokens are not GPT-2's"),
        (lacking, [], r"tensor h\.1\.ln_2\.bias is not there"),
        (weights_only, [], "model_args: this key is missing"),
        (bare_weights, [], "nanoGPT wrote: it has neither model nor model_args; of a model that"),
        (a_list, [], "nanoGPT wrote: it has neither model nor model_args"),
        (some_bytes, [], "it: not a ckpt.pt that nanoGPT wrote: "),
        (pointer, [], "it only stands in for a file that is elsewhere: `git lfs pull` brings it"),
        (lambda folder: save("Llama", folder), ["--context", "65"], "reads 64 tokens at most"),
        (
            lambda folder: save("Llama", folder),
            ["--stride", "65"],
            "stride 65 is above the context",
        ),
        (some_bytes, ["--revision", "v1"], "it lies here .*: leave out --revision v1"),
        (some_bytes, ["no.txt"], "no.txt: no such file"),
        (some_bytes, ["no/*.txt"], "no such file; without quotation marks the shell makes names"),
        (some_bytes, ["it"], "TEXT, which matches it: narrow it to files that end in .txt"),
        (some_bytes, ["."], r"\.: a folder: name files"),
        (
            some_bytes,
            ["--output", "o.json", "--made-by", "a=\udcff"],
            "a result file is UTF-8, and",
        ),
        (some_bytes, ["--output", "texts.json"], r"texts\.json is there, and is no result file"),
        (some_bytes, ["--made-by", "seed"], "--made-by seed: write it as KEY=VALUE"),
        (some_bytes, ["--output", "no/o.json"], "no folder no to write in"),
        (some_bytes, ["--output", "."], r"\. is a folder: name a file in it"),
        (some_bytes, ["--output", "o.txt"], r"o\.txt: name it \.json"),
        (some_bytes, ["--output", "/proc/o.json"], "cannot be written: "),
        (not_a_number, [], "its logits are not finite"),
        (
            nano("transformer.wte.weight", lambda w: w.mul_(1e38)),
            ["--stride", "32"],
            "it: its loss is (nan|inf): ",
        ),
        (
            nano("transformer.ln_f.bias", lambda w: w * math.nan),
            [],
            r"it: ln_f\.bias holds what is no finite number",
        ),
        (
            nano("lm_head.weight", lambda w: w + 1),
            [],
            r"it: lm_head\.weight is not wte\.weight, as it is in nanoGPT",
        ),
        (
            nano("transformer.ln_f.bias", lambda w: w.to(torch.int8)),
            [],
            r"it: ln_f\.bias is torch\.int8: only dense floats",
        ),
        (
            nano("transformer.wpe.weight", lambda w: w.to_sparse()),
            [],
            r"it: wpe\.weight is torch\.sparse_coo, on cpu: only dense floats",
        ),
        (
            nano("transformer.wpe.weight", lambda w: w.to("meta")),
            [],
            r"it: wpe\.weight is torch\.strided, on meta: only dense floats",
        ),
        (
            nano("_orig_mod.transformer.ln_f.bias", lambda w: torch.ones(32)),
            [],
            r"it: there are two tensors for ln_f\.bias",
        ),
        (
            nano_of_sizes(n_layer=4096),
            [],
            r"h\.10\.attn\.c_attn\.bias is not there, by",
        ),
        (
            nano_of_sizes(block_size=1 << 24),
            [],
            r"wpe\.weight is \[64, 32\], by model_args",
        ),
        (nano_of_sizes(use_rope=True), [], r"use_rope: nanoGPT's own GPT has none, so what this"),
        (nano_of_sizes(bias=False), [], r"c_attn\.bias is \[96\], by model_args it should be not"),
        (
            config(n_layer=1),
            [],
            r"h\.1\.\S+ is no part of a GPT2LMHeadModel as config",
        ),
        (cut, [], "it: transformers cannot open it: "),
        (nothing_in_it, [], "it: transformers cannot open it: "),
        (config(n_layer="many"), [], "it: transformers cannot open it: "),
        (config(n_positions=32), [], r"it has no transformer\.wpe\.weight as a GPT2LMHeadModel"),
        (config(n_embd=None), [], "it: transformers cannot open it: "),
        (config(n_head=0), [], "it: transformers cannot (open|run) it: "),
        (xlnet, [], "it sees the tokens that it should predict: it is not causal"),
        (with_adapter, [], "it has an adapter .*: measure the model with it merged"),
        (pieces_alone, [], "its tokenizer.model takes sentencepiece: `pip install sentencepiece`"),
        (
            lambda folder: torch.save({"config": PurePosixPath("a")}, folder),
            ["--no-end-of-text"],
            "nanoGPT wrote: it holds more than tensors and plain values, a pathlib.PurePosixPath: ",
        ),
        (torn, [], r"it is damaged: provenance\.json is not what train wrote there"),
        (lambda folder: None, [], "neither a folder nor a file nor a name on the hub"),
    ],
)
def test_an_error_is_a_line(make: Callable[[Path], Any], arguments: list[str], why: str) -> None:
    name = "it" if make.__name__ != "<lambda>" or arguments else "no/such/model"
    make(Path(name))
    with pytest.raises(UserError, match=why) as error:
        run(name, "texts.json", *arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["models/gpt", "pretrained/gpt2"])
def test_the_hub_is_not_asked_for_a_folder_of_ours_that_is_not_there(name: str) -> None:
    Path(name).parent.mkdir()
    with pytest.raises(UserError, match=f"{name}: no such folder; `dvc repro train` in the"):
        run(name, "texts.json")


def test_code_that_comes_with_a_model_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it ask whether it may be, as transformers does."""
    classes = dict.fromkeys(["AutoConfig", "AutoModelForCausalLM"], "code.Own")
    config(model_type="own", auto_map=classes)(Path("it"))
    Path("it/code.py").write_text(f"open({str(Path.cwd() / 'was run')!r}, 'w')\n")
    monkeypatch.setattr("builtins.input", lambda prompt="": "yes")
    with pytest.raises(UserError, match=r"it: transformers cannot open it: .*custom code"):
        run("it", "texts.json")
    assert not Path("was run").exists()


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("GPT2", ["transformer.h.0.attn.bias", "transformer.h.1.attn.masked_bias"]),
        ("GPT2", ["transformer.h.0.attn.causal_mask"]),  # by this name in CodeGen
        ("GPTNeoX", ["gpt_neox.layers.0.attention.bias"]),
        ("Llama", ["model.layers.0.self_attn.rotary_emb.inv_freq"]),
    ],
)
def test_what_old_files_have_among_the_weights_does_no_harm(kind: str, names: list[str]) -> None:
    save(kind, Path("it"))
    run("it", "texts.json", "--stride", "24", "--output", "new.json")
    weights = load_file("it/model.safetensors") | {name: torch.zeros(4) for name in names}
    save_file(weights, "it/model.safetensors", metadata={"format": "pt"})
    run("it", "texts.json", "--stride", "24", "--output", "o.json")
    assert nats() == nats("new.json")


@pytest.mark.parametrize("batch_size", [1, 8])
def test_positions_by_the_width_of_a_batch_are_those_of_each_window(
    batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of Phi-3 from 3.5 on, whose short windows would have the positions of long ones."""
    factors = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [9.0] * 4}
    factors |= {"original_max_position_embeddings": 16, "rope_theta": 1e4}
    own = tokenizer()
    torch.manual_seed(1)
    kind = transformers.Phi3Config(
        vocab_size=len(own), pad_token_id=0, rope_parameters=factors, **SIZE
    )
    kind.original_max_position_embeddings = 16
    model = transformers.Phi3ForCausalLM(kind).eval()
    model.save_pretrained("it")
    own.save_pretrained("it")
    monkeypatch.setattr(
        measure, "EVALUATE", measure.EVALUATE.model_copy(update={"batch_size": batch_size})
    )
    run("it", "texts.json", "--stride", "24", "--output", "o.json")
    ids = [
        [*own.encode(text, add_special_tokens=False, split_special_tokens=True), 1]
        for text in TEXTS
    ]
    alone = expected(ids, 0, lambda row: model(row).logits, 24, each_window=True)
    assert nats() == pytest.approx(alone, rel=1e-5)


def test_a_file_of_weights_alone_is_sent_to_its_folder() -> None:
    save("GPT2", Path("it"))
    with pytest.raises(UserError, match="safetensors: name the folder that it lies in"):
        run("it/model.safetensors", "texts.json")


def test_a_pipe_is_told_as_one() -> None:
    os.mkfifo("pipe.txt")
    save("GPT2", Path("it"))
    with pytest.raises(UserError, match=r"pipe\.txt: a pipe or a device: name files"):
        run("it", "pipe.txt")


def test_an_end_that_is_left_out_need_not_be_known() -> None:
    no_end(Path("theirs"))
    run("theirs", "texts.json", "--no-end-of-text", "--output", "o.json")
    assert measured()["begins_with"] == "<s>"


def test_a_stride_that_nobody_asked_for_fits_into_the_context() -> None:
    save("GPT2", Path("theirs"), n_positions=32)
    run("theirs", "texts.json", "--output", "o.json")
    assert (measured()["stride"], measured()["context"]) == (16, 32)
    with pytest.raises(UserError, match="stride 64 is above the context, 32"):
        run("theirs", "texts.json", "--stride", "64")


def test_a_checksum_is_no_number() -> None:
    save("Llama", Path("theirs"))
    texts = ["0012345", "1_000", "0x12", "1e-3", ".5", "true", "0.25", "-3"]
    words = [word for n, text in enumerate(texts) for word in ("--made-by", f"{n}={text}")]
    run("theirs", "texts.json", "--output", "o.json", *words)
    made_by = read("o.json").made_by
    found = [made_by[str(n)] for n in range(len(texts))]
    assert found == ["0012345", "1_000", "0x12", 0.001, 0.5, True, 0.25, -3]


@pytest.mark.parametrize("padding", [None, 0, -1])
def test_a_context_may_be_as_long_as_the_vocabulary_is_large(
    monkeypatch: pytest.MonkeyPatch, padding: int | None
) -> None:
    """The embedding of tokens, which may have a padding, is no table of positions."""
    size = len(tokenizer())
    padding = size - 1 if padding == -1 else padding
    monkeypatch.setitem(SIZE, "max_position_embeddings", size)
    monkeypatch.setitem(SIZE, "pad_token_id", padding)
    save("Llama", Path("theirs"))
    run("theirs", "texts.json", "--output", "o.json")
    assert measured()["context"] == size


@pytest.mark.parametrize("n_positions", [1, 2, 7])
def test_a_context_may_be_a_few_tokens(n_positions: int) -> None:
    save("GPT2", Path("theirs"), n_positions=n_positions)
    run("theirs", "texts.json", "--stride", "1", "--output", "o.json")
    assert measured()["context"] == n_positions


@pytest.mark.parametrize(
    ("make", "place", "attribute"),
    [
        (partial(save, "Llama"), transformers.AutoModelForCausalLM, "from_pretrained"),
        (partial(save, "Llama"), transformers.LlamaForCausalLM, "forward"),
        (Path.touch, torch, "load"),
    ],
)
def test_a_lack_of_memory_is_told_as_that(
    make: Callable[[Path], Any], place: Any, attribute: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In opening a model, and in looking at it: what torch raises is a RuntimeError."""
    make(Path("it"))
    # Too much for any machine, so that torch says it in its own words.
    monkeypatch.setattr(place, attribute, lambda *_, **__: torch.empty(1 << 60))
    with pytest.raises(UserError, match="measure, on cpu: out of memory; it in float32 takes more"):
        run("it", "texts.json")


def test_a_column_that_is_not_there_is_told_with_the_option_that_names_another() -> None:
    save("Llama", Path("theirs"))
    Path("a.csv").write_text("n,body\n1,One.\n")
    with pytest.raises(UserError, match=r"no column 'text' \(--text-column\); it has 'n', 'body'"):
        run("theirs", "a.csv")


@pytest.mark.parametrize("gone", ["| true", "2>&1 | true", "2> /dev/full"])
def test_the_result_is_there_though_nobody_hears_of_it(gone: str) -> None:
    save("Llama", Path("theirs"))
    command = f"{DROPGPT} measure theirs texts.json --stride 24 --output o.json {gone}"
    alone = environment() | {"PYTHONUNBUFFERED": "1"}
    assert subprocess.run(["bash", "-o", "pipefail", "-c", command], env=alone).returncode == 0
    assert read("o.json").documents.nats.sum() > 0


def test_without_texts_or_tokens_it_says_what_to_name() -> None:
    with pytest.raises(UserError, match="name files with texts to measure on"):
        run("theirs")


@pytest.mark.parametrize("option", ["--text-column", "--separator"])
def test_how_to_read_no_texts_is_a_mistake(option: str) -> None:
    with pytest.raises(UserError, match="say how to read TEXTs: name some"):
        run("theirs", option, "a")


def test_without_transformers_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers_model, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'transformers>=5\.23,<6'"):
        run("theirs", "texts.json")


def test_a_model_is_opened_where_any_kernel_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU some models have no deterministic one, and their first pass is before the texts'."""
    modes: list[int] = []

    def opened(*_: Any) -> Any:
        modes.append(torch.get_deterministic_debug_mode())
        raise UserError("far enough")

    monkeypatch.setattr("dropgpt.measuring.transformers_model._opened", opened)
    torch.set_deterministic_debug_mode("error")
    with pytest.raises(UserError, match="far enough"):
        transformers_model.read("any", torch.device("cpu"))
    assert modes == [0]
