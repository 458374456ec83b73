"""`dropgpt export` on what the real pipeline has made."""

import errno
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

from clone import Clone
from dropgpt.__main__ import main
from dropgpt.commands.export import EVALUATION, FRONT, PARTIAL, SUMMARY, model_card
from dropgpt.machine import provenance
from dropgpt.machine.files import SUMS
from dropgpt.model import artifact
from dropgpt.model.gpt import GPT
from dropgpt.perplexity import number_in_words

Export = Callable[..., ModelCard]


@pytest.fixture
def export(reproduced: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Export:
    """`dropgpt export FOLDER …` in the clone; gives the card, as the hub's library reads it."""
    monkeypatch.chdir(reproduced.folder)

    def export(*arguments: str, folder: Path = tmp_path / "liliput") -> ModelCard:
        monkeypatch.setattr(sys, "argv", ["dropgpt", "export", str(folder), *arguments])
        main()
        return ModelCard.load(folder / "README.md")

    return export


@pytest.fixture
def remade(reproduced: Clone, tmp_path: Path) -> Callable[..., str]:
    """A copy of the clone's model with another chain or other weights."""

    def remade(source: str | None, add: float = 0.0, card: Any = None, **data: Any) -> str:
        folder = reproduced.folder / artifact.TRAINED
        chain = provenance.read(folder)
        chain["tokenize"]["params"]["data"] = {"source": source, **data} if source else {}
        if card:
            chain["tokenize"]["card"] = card
        model = artifact.load(folder)
        with torch.no_grad():
            model.wpe.weight.add_(add)
        artifact.save(model, tmp_path / "remade", chain)
        return str(tmp_path / "remade")

    return remade


def test_the_folder_is_the_model_and_its_card(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = export()
    names = {*artifact.FILES, SUMS}
    assert {file.name for file in (tmp_path / "liliput").iterdir()} == names | {"README.md"}
    for name in names:
        assert (tmp_path / "liliput" / name).read_bytes() == (artifact.TRAINED / name).read_bytes()
    artifact.load(tmp_path / "liliput")  # the card does not break the seal
    monkeypatch.chdir(tmp_path)
    for code in re.findall(r"```python\n(.*?)```", card.text, re.DOTALL):
        exec(code, {})


def test_the_card_tells_what_was_measured(export: Export) -> None:
    card = export()
    found = json.loads((EVALUATION / SUMMARY).read_text())
    assert {r.metric_type: r.metric_value for r in card.data.eval_results} == {
        name: found[name] for name in ("bits_per_byte", "perplexity")
    }
    assert card.data.model_name == "liliput"
    (ours,) = re.findall(r"^\| \*\*this model.*$", card.text, re.MULTILINE)
    low, high = found["perplexity_95_low"], found["perplexity_95_high"]
    assert f"| **{found['bits_per_byte']:.3f}** | **{found['perplexity']:,.0f}**" in ours
    assert f"95% interval {low:,.0f} to {high:,.0f}" in ours
    for name in ("trigram", "unigram"):
        bits, perplexity = found[f"{name}_bits_per_byte"], found[f"{name}_perplexity"]
        assert f"| {bits:.3f} | {number_in_words(perplexity)} |" in card.text


def test_the_card_tells_what_made_the_model(export: Export) -> None:
    text = export().text
    record = provenance.read(artifact.TRAINED)["train"]
    assert f"GPT-2 of {sum(p.numel() for p in load().parameters()):,} parameters" in text
    assert "dropout of 0.1 on texts" in text
    assert json.dumps(record["params"]["train"])[1:40] in " ".join(text.split())
    for fact in ("device", "precision", "system", "python"):
        assert record["environment"][fact] in text
    assert record["code"][:12] in text


def load() -> GPT:
    return artifact.load(artifact.TRAINED)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("wikipedia", "CC BY-SA"),
        ("fineweb", "Common Crawl's terms"),
        ("files", "for their maker to say"),
    ],
)
def test_the_front_matter_has_the_licence_of_the_text(
    export: Export, remade: Callable[..., str], source: str, said: str, capsys: Any
) -> None:
    card = export("--model", remade(source))
    data = card.data.to_dict()
    assert {key: data.get(key) for key in FRONT[source]} == FRONT[source]
    assert data["pipeline_tag"] == "text-generation"
    assert data["library_name"] == "transformers"
    assert ("language" in data) == (source != "files")
    assert said in card.text
    assert ("under which licence your texts are" in capsys.readouterr().out) == (source == "files")


STORIES = {
    "dataset": "roneneldan/TinyStories",
    "config": None,
    "revision": "f" * 40,
    "split": "train",
    "held_out_split": "validation",
    "text_column": "text",
}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"license": "cdla-sharing-1.0"}, "as its licence: cdla-sharing-1.0."),
        ({"license": ["cc-by-sa-3.0", "gfdl"]}, "as its licence: cc-by-sa-3.0, gfdl."),
        ({"license": "other", "license_name": "own", "license_link": "https://a"}, "other"),
        ({}, "Its card did not say under which licence it is"),
    ],
)
def test_a_data_set_on_the_hub_has_its_own_licence_and_address(
    export: Export, remade: Callable[..., str], said: Any, told: str, capsys: Any
) -> None:
    card = export("--model", remade("hub", card=said, **STORIES))
    data = card.data.to_dict()
    assert {key: data[key] for key in said} == said
    assert data["license"] == said.get("license", "unknown")
    assert data["datasets"] == ["roneneldan/TinyStories"]
    assert card.data.eval_results[0].dataset_type == "roneneldan/TinyStories"
    assert told in card.text
    page = "(https://huggingface.co/datasets/roneneldan/TinyStories"
    assert (
        f"trained from scratch with dropout of 0.1 on [roneneldan/TinyStories]{page})" in card.text
    )
    assert f"{page}/tree/{'f' * 40}), split train, column `text`" in card.text
    assert "held out was its split validation" in card.text
    assert ("under which licence your texts are" in capsys.readouterr().out) == (not said)


def test_what_was_measured_of_other_weights_is_not_told(
    export: Export, remade: Callable[..., str], capsys: Any
) -> None:
    card = export("--model", remade("wikipedia", add=0.1))
    assert "It has not been measured." in card.text
    assert "README.md: says that it has not been measured; data" in capsys.readouterr().out
    assert card.data.eval_results is None
    assert "perplexity" not in card.text


def test_a_model_of_another_folder_is_told_as_it_was_measured_there(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Path.cwd()
    monkeypatch.chdir(tmp_path)
    card = export("--model", str(project / artifact.TRAINED))
    found = json.loads((project / EVALUATION / SUMMARY).read_text())
    assert f"**{found['bits_per_byte']:.3f}**" in card.text


def test_what_was_measured_on_other_texts_is_not_told(
    export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = provenance.read

    def on_others(folder: Path) -> provenance.Chain:
        chain = read(folder)
        if folder == EVALUATION:
            chain["evaluate"]["inputs"]["tokens"] = "0" * 64
        return chain

    monkeypatch.setattr(provenance, "read", on_others)
    assert "It has not been measured." in export().text


def test_the_card_tells_by_what_schedule_and_with_what_context(export: Export) -> None:
    export()
    found = json.loads((EVALUATION / SUMMARY).read_text())
    chain = provenance.read(artifact.TRAINED)
    chain["train"]["params"]["train"]["dropout_schedule"] = "early"
    card = model_card("a", load(), chain, found | {"stride": 16, "across_documents": True})
    assert "trained from scratch with dropout of 0.1, by the schedule `early`, on" in card.text
    assert "What it sees runs on from one document to the next." in card.text


def test_what_has_no_number_is_said_in_words(export: Export) -> None:
    export()
    found = json.loads((EVALUATION / SUMMARY).read_text()) | {"stride": 16}
    found |= {"perplexity_95_low": None, "perplexity_95_high": None}
    card = model_card("a", load(), provenance.read(artifact.TRAINED), found)
    assert "**, 95% interval unknown, of one document |" in card.text
    found["perplexity"] = None
    card = model_card("a", load(), provenance.read(artifact.TRAINED), found)
    assert "| **beyond floating point**, 95% interval beyond floating point |" in card.text
    assert [r.metric_type for r in card.data.eval_results] == ["bits_per_byte"]


def test_a_mistake_is_one_line(
    export: Export, remade: Callable[..., str], tmp_path: Path, make_gpt: Callable[..., GPT]
) -> None:
    def refusal(*arguments: str, **folder: Path) -> str:
        with pytest.raises(SystemExit) as error:
            export(*arguments, **folder)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "models is not empty: name a folder" in refusal(folder=Path("models"))
    assert "params.yaml is a file, and a folder is to be written" in refusal(
        folder=Path("params.yaml")
    )
    assert "params.yaml/liliput: cannot be written: " in refusal(folder=Path("params.yaml/liliput"))
    assert refusal("--model", "models/none") == "error: models/none: no such folder"
    (tmp_path / "theirs").mkdir()
    assert "was not made here (it has no SHA256SUMS)" in refusal("--model", f"{tmp_path}/theirs")
    assert "does not say what it was trained on" in refusal("--model", remade(None))
    assert not (tmp_path / "liliput").exists()


def test_after_a_failed_write_the_same_command_writes_it_whole(
    make_gpt: Callable[..., GPT], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """As on a disk that was full; into a folder that is there and empty, of a name with a blank."""
    monkeypatch.chdir(tmp_path)
    chain = {"tokenize": {"params": {"data": {"source": "files"}}}}
    artifact.save(make_gpt(), artifact.TRAINED, chain)
    card = ModelCard("---\nlicense: unknown\n---\nA card.\n")
    monkeypatch.setattr("dropgpt.commands.export.model_card", lambda *_: card)
    folder = tmp_path / "made" / "mein Entwürfe..-"
    folder.mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["dropgpt", "export", "made/mein Entwürfe..-"])

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as error:
        patch.setattr(ModelCard, "save", full)
        main()
    assert str(error.value) == (
        "error: made/mein Entwürfe..-: cannot be written: [Errno 28] No space left on device"
    )
    assert [*folder.parent.glob("**/*")] == [folder]
    (folder / PARTIAL).mkdir()
    (folder / PARTIAL / "config.json").write_text("{")  # as a kill leaves it
    main()
    assert {file.name for file in folder.iterdir()} == {*artifact.FILES, SUMS, "README.md"}
    assert "hf upload YOUR_NAME/mein-Entw-rfe 'made/mein Entwürfe..-'\n" in capsys.readouterr().out
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    model = ["--model", str(tmp_path / artifact.TRAINED)]
    monkeypatch.setattr(sys, "argv", ["dropgpt", "export", ".", *model])
    main()
    assert (Path.cwd() / "README.md").is_file()  # it is still there, and in it the user


def test_a_measurement_that_is_damaged_is_not_told(
    export: Export, reproduced: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (artifact.TRAINED, EVALUATION):
        shutil.copytree(reproduced.folder / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    (EVALUATION / SUMMARY).chmod(0o644)  # DVC lets nobody write to what it keeps
    (EVALUATION / SUMMARY).write_text("{}")
    with pytest.raises(SystemExit, match=r"evaluation is damaged: summary\.json is not what eval"):
        export()
