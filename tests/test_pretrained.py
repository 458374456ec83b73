"""Another's model through the pipeline, by the real DVC."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from transformers import GPT2Config, GPT2LMHeadModel

from clone import Clone, stages_run
from dropgpt.comparison.experiments import made_by
from dropgpt.evaluation import plan
from dropgpt.tokens import tensor
from dropgpt.tokens.vocabulary import N_VOCAB, gpt2_encoding


@pytest.fixture
def copied(reproduced: Clone, tmp_path: Path) -> Clone:
    """A clone for one test, which may leave what git ignores in it."""
    return reproduced.copy(tmp_path / "clone")


def saved(clone: Clone, seed: int) -> GPT2LMHeadModel:
    """A model with tanh's GELU, a head of its own and a context twice as long as ours."""
    torch.manual_seed(seed)
    config = GPT2Config(n_layer=2, n_head=2, n_embd=32, n_positions=64, tie_word_embeddings=False)
    model = GPT2LMHeadModel(config).eval()
    model.save_pretrained(clone.folder / "pretrained/theirs")
    return model


def set_model(clone: Clone) -> None:
    theirs = {"model": "pretrained/theirs"}
    clone.set(evaluate=theirs | {"stride": 48}, sample=theirs | {"temperatures": [0.0]})


def their_loss(theirs: GPT2LMHeadModel, clone: Clone) -> float:
    """The mean over the held-out tokens, by transformers alone, window by window."""
    tokens = tensor.read(clone.folder / "data/tokens")
    stream = tokens.held_out.astype(np.int64)
    lengths = tokens.documents[tokens.documents.held_out].tokens.to_numpy()
    nats = 0.0
    for w in plan(lengths, n_ctx=64, stride=48):
        before = N_VOCAB - 1 if w.opens else stream[w.first - 1]
        with torch.no_grad():
            z = theirs(torch.tensor([[before, *stream[w.first : w.end - 1]]])).logits[0]
        z, targets = z[w.score - w.first :], torch.from_numpy(stream[w.score : w.end])
        nats += F.cross_entropy(z.double(), targets, reduction="sum").item()
    return nats / len(stream)


def test_metrics_and_samples_are_those_of_the_model_in_the_folder(copied: Clone) -> None:
    theirs = saved(copied, seed=1)
    set_model(copied)
    assert stages_run(copied.dvc("repro")) == ["evaluate", "sample"]
    assert copied.metrics("evaluate")["loss"] == pytest.approx(their_loss(theirs, copied), abs=1e-5)

    sample = json.loads((copied.folder / "samples/samples.json").read_text())[0]
    prompt = torch.tensor([gpt2_encoding().encode(sample["prompt"])])
    expected = theirs.generate(prompt, max_new_tokens=5, do_sample=False)[0]
    assert sample["tokens"] == expected[prompt.size(1) :].tolist()


def test_a_model_is_another_one_by_its_config_alone(copied: Clone) -> None:
    saved(copied, seed=1)
    set_model(copied)
    found = []
    file = copied.folder / "pretrained/theirs/config.json"
    for heads in (2, 1):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"n_head": heads}))
        copied.run(sys.executable, "-m", "stages.evaluate")
        found.append(made_by(copied.json("data/evaluation/provenance.json")))
    assert [key for key in found[0] if found[0][key] != found[1][key]] == ["config"]


@pytest.mark.slow
def test_a_model_of_another_vocabulary_reads_the_same_texts(copied: Clone) -> None:
    """The data's tokens are others then; the model's are not, nor is what it makes of the texts."""
    saved(copied, seed=1)
    set_model(copied)
    copied.dvc("repro", "evaluate")
    expected, table = copied.summary(), documents(copied)
    copied.set(tokenize={"vocabulary_size": 300})
    assert stages_run(copied.dvc("repro", "evaluate")) == ["tokenize", "train", "evaluate"]
    found = copied.summary()
    assert copied.json("data/statistics.json")["unique_tokens"] < 300
    for name in "unigram", "trigram":  # of other tokens, so that only the bits compare
        assert expected[f"{name}_perplexity"] > 1
        assert found[f"{name}_loss"] is found[f"{name}_perplexity"] is None
        assert found[f"{name}_bits_per_byte"] > 0
    pd.testing.assert_frame_equal(documents(copied), table)
    assert found["bits_per_byte"] == expected["bits_per_byte"]


@pytest.mark.slow
def test_models_of_two_vocabularies_compare_in_bits_per_byte(copied: Clone) -> None:
    before = copied.metrics("evaluate")["bits_per_byte"]
    copied.set(tokenize={"vocabulary_size": 300})
    copied.dvc("repro", "evaluate")
    after = copied.metrics("evaluate")["bits_per_byte"]
    found = json.loads(copied.dropgpt("compare", "main", "workspace", "--json"))
    assert [group["bits_per_byte"] for group in found["groups"]] == pytest.approx([before, after])
    assert found["groups"][1]["difference"] == pytest.approx(after - before)


def documents(clone: Clone) -> pd.DataFrame:
    return pd.read_parquet(clone.folder / "data/evaluation/documents.parquet")


def test_what_was_measured_is_not_what_the_model_was_made_with(copied: Clone) -> None:
    """A model made here, with the ends of documents among its tokens, measures some without."""
    shutil.copytree(copied.folder / "models/gpt", copied.folder / "pretrained/mine")
    copied.set(evaluate={"model": "pretrained/mine"}, sample={"model": "pretrained/mine"})
    copied.dvc("repro", "evaluate")
    trained_on = " ".join(copied.dropgpt("measure", "pretrained/mine", "corpora/0.txt").split())
    assert "9 of 9 documents of TEXT, " in trained_on
    assert "stand word for word in the training part, too" in trained_on
    table = copied.folder / "data/tokens/documents.parquet"
    whole = table.read_bytes()
    table.unlink()  # not to write into DVC's cache, which has it under another name
    table.write_bytes(whole[:-9])
    damaged = " ".join(copied.dropgpt("measure", "pretrained/mine", "corpora/0.txt").split())
    assert "was trained on these texts cannot be told: " in damaged
    table.unlink()
    table.write_bytes(whole)
    copied.commit()
    copied.git("branch", "ends")
    copied.set(tokenize={"end_of_text": False})
    copied.dvc("repro", "--force", "--single-item", "tokenize")
    told = "warning: pretrained/mine was trained on other tokens than data/tokens has"
    assert told in copied.dvc("repro", "--force", "--single-item", "evaluate")
    assert told in " ".join(copied.dropgpt("measure", "pretrained/mine").split())
    copied.dvc("repro", "--force", "--single-item", "sample")
    chain = copied.json("data/evaluation/provenance.json")
    assert [*chain] == ["model", "tokenize", "evaluate"]
    assert not chain["tokenize"]["params"]["tokenize"]["end_of_text"]
    assert chain["model"]["tokenize"]["params"]["tokenize"]["end_of_text"]
    assert chain["model"] == copied.json("pretrained/mine/provenance.json")
    assert [*copied.json("samples/provenance.json")] == ["model", "sample"]
    said = copied.dropgpt("compare", "ends", "workspace", ok=False)
    assert "evaluated with tokenize.end_of_text True, workspace with False" in said
    copied.dropgpt("report")


@pytest.mark.slow
def test_dvc_notices_another_model_in_the_folder(copied: Clone) -> None:
    saved(copied, seed=1)
    set_model(copied)
    copied.dvc("repro", "evaluate")
    assert stages_run(copied.dvc("repro", "evaluate")) == []
    theirs = saved(copied, seed=2)
    assert stages_run(copied.dvc("repro", "evaluate")) == ["evaluate"]
    assert copied.metrics("evaluate")["loss"] == pytest.approx(their_loss(theirs, copied), abs=1e-5)


@pytest.mark.slow
def test_a_model_that_dvc_keeps_is_found_by_experiments_elsewhere(copied: Clone) -> None:
    """Its weights stay out of git; `--temp` runs in a copy of what git and DVC know."""
    saved(copied, seed=1)
    assert copied.git("status", "--porcelain").stdout == ""
    copied.dvc("add", "pretrained/theirs")
    set_model(copied)
    copied.commit()
    assert copied.git("ls-files", "pretrained").stdout.split() == [
        "pretrained/.gitkeep",
        "pretrained/theirs.dvc",
    ]
    output = copied.dvc("exp", "run", "--temp", "-S", "evaluate.seed=2")
    assert stages_run(output) == ["evaluate", "sample"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"stride": 65},
            "evaluate.stride 65 is above the context of pretrained/theirs, 64: tokens between",
        ),
        ({"model": "models/gpt"}, "evaluate.model is 'models/gpt': DVC would not notice a change"),
        ({"model": "pretrained/none"}, "evaluate.model is 'pretrained/none': no such folder"),
    ],
)
def test_a_mistake_gives_one_line(copied: Clone, changes: dict[str, object], said: str) -> None:
    saved(copied, seed=1)
    set_model(copied)
    copied.set(evaluate=changes)
    before = copied.bytes()
    output = copied.dvc("repro", "evaluate", ok=False)
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert said in line
    assert copied.bytes() == before
