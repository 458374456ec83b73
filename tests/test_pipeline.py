"""The pipeline as a user runs it: through DVC, in a clone of its own, on a tiny configuration."""

import ast
import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML

from clone import Clone, environment, stages_run, wait_for
from conftest import ROOT, TINY
from dropgpt import reproduce
from dropgpt.corpus import document
from dropgpt.corpus.document import Document
from dropgpt.machine.repository import outputs
from dropgpt.params import load
from dropgpt.perplexity import number_in_words
from test_docs import commands


def test_everything_is_there_and_adds_up(clone: Clone) -> None:
    tokens, evaluate = clone.json("data/statistics.json"), clone.summary()
    assert tokens["train_tokens"] + tokens["validation_tokens"] == tokens["tokens"]
    assert evaluate["tokens"] == tokens["validation_tokens"]
    assert evaluate["perplexity"] == pytest.approx(math.exp(evaluate["loss"]))
    assert evaluate["perplexity_95_low"] < evaluate["perplexity"] < evaluate["perplexity_95_high"]
    assert evaluate["unigram_perplexity"] > 1
    for yardstick in ("unigram", "trigram"):
        loss = evaluate[f"{yardstick}_loss"]
        assert evaluate[f"{yardstick}_perplexity"] == pytest.approx(math.exp(loss))
        bits_a_nat = evaluate["bits_per_byte"] / evaluate["loss"]  # the same text for all
        assert evaluate[f"{yardstick}_bits_per_byte"] == pytest.approx(loss * bits_a_nat)
    assert evaluate["trigram_loss"] < evaluate["unigram_loss"]
    documents = pd.read_parquet(clone.folder / "data/evaluation/documents.parquet")
    assert documents.nats.sum() / documents.tokens.sum() == pytest.approx(evaluate["loss"])
    assert evaluate["parameters"] == 2 * 16 * (12 * 16 + 13) + 16 * (50257 + 32 + 2)
    shown = clone.metrics("evaluate")
    assert shown.pop("trigram") == evaluate["trigram_bits_per_byte"]
    assert shown.items() <= evaluate.items()
    assert len(pd.read_csv(clone.folder / "metrics/training.csv")) == TINY["train"]["steps"]
    ranks = (clone.folder / "metrics/rank_frequency.csv").read_text()
    assert ranks.startswith('"rank","count","token","text"\n')  # all texts, a carriage return, too
    samples = json.loads((clone.folder / "samples/samples.json").read_text())
    assert len(samples) == 3 * 4
    assert len(clone.json("samples/variety.json")) == 4


def test_tables_fit_into_a_terminal(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("evaluate", "train"):  # of the default run, since untrained losses are wider
        shutil.copy(ROOT / f"metrics/{name}.json", clone.folder / "metrics")
    tables = [clone.dvc("metrics", "show"), clone.dvc("metrics", "diff", "--all")]
    assert all("bits_per_byte" in table and "perplexity" in table for table in tables)
    assert max(len(line) for table in tables for line in table.splitlines()) <= 120
    for name in ([], ["--name", "dropout-of-0.25"]):
        clone.dvc("exp", "save", *name)
    pages = (commands(ROOT / page) for page in ("README.md", "docs/sharing.md"))
    shown, again = (words for page in pages for words in page if "--keep" in words)
    assert shown == again
    table = clone.dvc(*shown[1:])
    assert all(f" {name} " in table for name in ("bits_per_byte", "model.dropout", "train.seed"))
    assert len(re.findall(r"[├└]── \w{7} \[[\w.-]+", table)) >= 2
    assert max(map(len, table.splitlines())) <= 80


def test_each_stage_says_what_came_out_and_where_it_lies(clone: Clone) -> None:
    clone.set(train={"dropout_switch_step": 1})
    said = clone.dvc("repro", "--force").splitlines()
    tokens, evaluate = clone.json("data/statistics.json"), clone.summary()
    texts = [found.text for found in document.read(clone.folder / "data/documents.parquet")]
    characters = sum(map(len, texts))
    validation = pd.read_csv(clone.folder / "metrics/validation.csv").validation_loss.iloc[-1]
    training = pd.read_csv(clone.folder / "metrics/training.csv").loss[2:].mean()
    warmup_steps = load(clone.folder / "params.yaml").train.warmup_steps
    low, high = evaluate["perplexity_95_low"], evaluate["perplexity_95_high"]
    trigram, unigram = (
        f"{evaluate[f'{name}_bits_per_byte']:.3f} and "
        f"{number_in_words(evaluate[f'{name}_perplexity'])}"
        for name in ("trigram", "unigram")
    )
    for line in (
        f"download_fineweb: {len(texts)} documents of {characters:,} characters: "
        "data/documents.parquet",
        f"tokenize: {tokens['tokens']:,} tokens, {tokens['unique_tokens']:,} unique: data/tokens",
        "warning: train.dropout_switch_step is 1, without effect on model and held-out loss: "
        "train.dropout_schedule is constant",
        f"train: read 512 tokens, the training part {512 / tokens['train_tokens']:.1f} times, in 4 "
        "steps",
        f"train: warning: train.warmup_steps is {warmup_steps}, so that the learning rate was "
        "0.000571 at most, not what train.learning_rate says",
        f"train: loss {training:.3f} in training, {validation:.3f} held out, in nats a token: "
        "models/gpt",
        f"evaluate: models/gpt: {evaluate['loss']:.3f} nats a token, "
        f"{evaluate['bits_per_byte']:.3f} bits per byte, perplexity {evaluate['perplexity']:,.0f} "
        f"(95% interval {low:,.0f} to {high:,.0f})",
        f"evaluate: a trigram has {trigram}, the unigram {unigram}: data/evaluation/summary.json",
        "evaluate: it is worse than the unigram, which only counts: take more steps or a smaller "
        "model",
        "sample: 12 generations: samples/samples.md",
        'sample: try one of your own: dropgpt write "Once upon a time"',
    ):
        assert line in said


def test_a_result_says_what_it_is_the_result_of(clone: Clone) -> None:
    def chain(folder: str) -> Any:
        return json.loads((clone.folder / folder / "provenance.json").read_text())

    assert list(chain("models/gpt")) == ["tokenize", "train"]
    assert list(chain("data/evaluation")) == ["tokenize", "train", "evaluate"]
    assert list(chain("samples")) == ["tokenize", "train", "sample"]
    params = YAML(typ="safe").load(clone.folder / "params.yaml")
    for record in chain("data/evaluation").values():
        for section, values in record["params"].items():
            # Of `data` only the source, so that another name for the same texts trains nothing.
            expected = {"source": "files"} if section == "data" else params[section]
            assert values == expected
    for stage in ("train", "evaluate"):
        record = chain("data/evaluation")[stage]
        assert {"device", "threads", "precision", "packages"} <= record["environment"].keys()
    weights = hashlib.sha256((clone.folder / "models/gpt/model.safetensors").read_bytes())
    assert chain("data/evaluation")["evaluate"]["inputs"]["weights"] == weights.hexdigest()
    assert chain("samples")["sample"]["inputs"]["weights"] == weights.hexdigest()
    code = chain("models/gpt")["train"]["code"]
    with (clone.folder / "src/dropgpt/training/loop.py").open("a") as file:
        file.write("# changed\n")
    clone.dvc("repro", "train")
    assert chain("models/gpt")["train"]["code"] != code


def test_the_environment_comes_back_with_the_numbers(clone: Clone) -> None:
    """From DVC's run-cache, as it was when they were made."""
    before = clone.bytes()
    clone.set(train={"precision": "float32", "seed": 7}, runtime={"threads": 1})
    clone.dvc("repro", "train")
    clone.set(train={"precision": "auto", "seed": 1})
    clone.dvc("repro", "train")
    assert clone.bytes() == before


@pytest.mark.slow
def test_a_torn_lock_costs_no_training(clone: Clone) -> None:
    """`kill -9` while DVC writes it, and what docs/recovery.md says then."""
    clone.set(train={"seed": 7})
    clone.dvc("repro")
    lock = clone.folder / "dvc.lock"
    whole, found = lock.read_text(), clone.bytes()
    for torn in ("", whole[: whole.index("outs:")], whole[: whole.index("  train:")]):
        lock.write_text(torn)
        lock.unlink()
        assert "Running stage" not in clone.dvc("repro")
        assert lock.read_text() == whole
        assert clone.bytes() == found


def test_a_lock_of_another_machine_costs_no_training(clone: Clone) -> None:
    """Its results are in no cache here, ours are; and what docs/recovery.md says then."""
    lock = clone.folder / "dvc.lock"
    whole, found = lock.read_text(), clone.bytes()
    model = clone.outputs()["models/gpt"]
    lock.write_text(whole.replace(model, "0" * 32 + ".dir"))
    assert stages_run(clone.dvc("repro", "--dry"))[0] == "train"  # no run-cache is asked
    lock.unlink()
    assert "Running stage" not in clone.dvc("repro")
    assert lock.read_text() == whole
    assert clone.bytes() == found


def test_a_stage_that_fails_in_another_clone_leaves_the_metrics(
    reproduced: Clone, tmp_path: Path
) -> None:
    """They are in git alone: no cache of DVC's has them there."""
    theirs = reproduced.copy(tmp_path / "ours").cloned(tmp_path / "theirs")
    theirs.set(model={"n_ctx": 4000})
    assert "takes 4001: lower model.n_ctx" in theirs.dvc("repro", "train", ok=False)
    assert theirs.git("status", "--porcelain", "metrics").stdout == ""
    assert (theirs.folder / "metrics/train.json").is_file()


def test_metrics_that_come_back_are_no_links_into_the_cache(clone: Clone) -> None:
    for words in ("config cache.type reflink,symlink", "checkout --relink"):
        clone.dvc(*words.split())
    clone.set(train={"learning_rate": 2e-3})
    clone.dvc("repro", "train")  # so that git has others
    found = clone.bytes()
    clone.set(model={"n_ctx": 4000})
    clone.dvc("repro", "train", ok=False)
    assert clone.bytes() == found
    assert not any(path.is_symlink() for path in (clone.folder / "metrics").iterdir())


def test_making_all_again_ends_well_when_it_is_asked_to(clone: Clone) -> None:
    """To it alone, and before DVC has begun anything else."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dropgpt.reproduce"],
        cwd=clone.folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for(clone.processes)
    process.send_signal(signal.SIGTERM)
    said = process.communicate()[0]
    assert process.returncode == 128 + signal.SIGTERM
    assert said.splitlines()[-1] == "reproduce: stopped by SIGTERM"
    assert "Traceback" not in said
    assert clone.processes() == []
    clone.dvc("repro")


@pytest.mark.slow
def test_a_project_below_the_root_of_dvc(reproduced: Clone, tmp_path: Path) -> None:
    """A stage that fails there brings its outputs back; its checkpoints lie in the project."""
    inner = reproduced.copy(tmp_path / "repository" / "inner")
    whole = inner.bytes()
    for name in (".git", "checkpoints"):
        shutil.rmtree(inner.folder / name)
    (inner.folder / ".dvc").rename(tmp_path / "repository/.dvc")
    outer = inner.at(tmp_path / "repository")
    outer.git("init", "--quiet", "--initial-branch", "main")
    outer.commit()
    inner.set(model={"n_ctx": 4000})
    said = outer.dvc("repro", "inner/dvc.yaml:train", ok=False)
    assert "takes 4001: lower model.n_ctx" in said
    assert "not all back" not in said
    assert inner.bytes() == whole
    inner.set(model={"n_ctx": 32}, train={"seed": 5})
    outer.dvc("repro", "inner/dvc.yaml:train")
    assert (inner.folder / "checkpoints").is_dir()
    assert not (outer.folder / "checkpoints").exists()


def test_tokens_are_not_said_to_be_of_other_texts(clone: Clone) -> None:
    clone.set(data={"source": "wikipedia"})
    found = clone.run(sys.executable, "-m", "stages.tokenize", ok=False)
    assert found.stderr == (
        "error: data/documents.parquet has the texts of data.source=files as it stood when they "
        "were made, and params.yaml says otherwise: run the stage download_fineweb first "
        "(`dvc repro` does)\n"
    )


def test_a_stage_alone_ends_documents_as_its_tokens_say(clone: Clone) -> None:
    clone.set(evaluate={"extra_corpora": ["corpora/1.txt"]})
    found = []
    for end_of_text in (True, False):
        clone.set(tokenize={"end_of_text": end_of_text})
        clone.run(sys.executable, "-m", "stages.evaluate")
        found.append(clone.summary()["extra_corpora"]["corpora/1.txt"])
    assert found[0] == found[1]


def test_a_result_says_of_which_further_texts_it_is(clone: Clone) -> None:
    def inputs() -> dict[str, str]:
        clone.run(sys.executable, "-m", "stages.evaluate")
        return clone.json("data/evaluation/provenance.json")["evaluate"]["inputs"]

    assert [*inputs()] == ["tokens", "weights", "config"]
    clone.set(evaluate={"extra_corpora": ["corpora/1.txt"]})
    before = inputs()
    clone.set(data={"separator": " "})  # the same file, read as other texts
    after = inputs()
    assert [key for key in before if before[key] != after[key]] == ["corpora"]


def test_a_folder_that_a_remote_keeps_file_by_file_is_its_files() -> None:
    """As `dvc push` leaves dvc.lock where the remote has versions of its own."""
    files = [{"relpath": one, "md5": f"{one}1"} for one in "ab"]
    lock = {"stages": {"sample": {"outs": [{"path": "samples", "files": files}]}}}
    found = outputs(json.dumps(lock))
    files.reverse()
    assert outputs(json.dumps(lock)) == found
    files[0]["md5"] = "another"
    assert outputs(json.dumps(lock)) != found


def test_a_second_repro_has_nothing_to_do(clone: Clone) -> None:
    assert "up to date" in clone.dvc("repro")


def test_every_output_is_reproduced(clone: Clone) -> None:
    before = clone.bytes()
    output = clone.run(sys.executable, "-m", "dropgpt.reproduce").stdout
    assert len(stages_run(output)) == 5
    assert "All 11 outputs have the same bytes" in output
    assert "They are not those" not in output
    assert clone.git("diff", "--exit-code", "dvc.lock").stdout == ""
    assert clone.bytes() == before


def test_reproduced_bytes_that_are_not_those_of_the_lock_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a fresh clone on another machine, where DVC rewrites dvc.lock."""
    lock = "stages: {{train: {{outs: [{{path: models/gpt, md5: {}}}, {{path: metrics, md5: b}}]}}}}"
    monkeypatch.chdir(tmp_path)
    Path("dvc.lock").write_text(lock.format("theirs"))
    monkeypatch.setattr(
        reproduce, "_dvc", lambda *_: Path("dvc.lock").write_text(lock.format("ours"))
    )
    monkeypatch.setattr(reproduce.kept, "settle", lambda chain: None)
    for said in ("They are not those that dvc.lock had: models/gpt. Another processor", ""):
        reproduce.main()
        first, *others = capsys.readouterr().out.splitlines()
        assert first == "All 2 outputs have the same bytes as before."
        assert bool(others) == bool(said)
        assert not others or others[0].startswith(said)


@pytest.mark.slow
def test_an_output_that_is_not_reproduced_is_named(clone: Clone) -> None:
    path = clone.folder / "stages/sample.py"
    path.write_text(
        "import time\n" + path.read_text().replace('"text":', 'time.time(): 0, "text":')
    )
    done = clone.run(sys.executable, "-m", "dropgpt.reproduce", ok=False)
    assert done.stderr.splitlines()[-1] == "error: not the same bytes as before: samples"


def test_an_experiment_runs_only_what_it_changes(clone: Clone) -> None:
    before = clone.bytes()
    output = clone.dvc("exp", "run", "-S", "model.dropout=0.2")
    assert stages_run(output) == ["train", "evaluate", "sample"]
    table = clone.dvc("metrics", "diff")
    row = next(line.split() for line in table.splitlines() if " perplexity " in line)
    assert row[:2] == ["metrics/evaluate.json", "perplexity"]
    assert float(row[4]) == pytest.approx(float(row[3]) - float(row[2]), abs=1e-3)
    assert float(row[4]) != 0
    clone.git("checkout", "params.yaml", "dvc.lock", "metrics")  # back, as the README has it
    clone.dvc("checkout")
    assert clone.bytes() == before


def test_the_commands_of_every_day_end_well_in_their_order(clone: Clone, tmp_path: Path) -> None:
    """README.md's, as they stand there; what is too long for the tiny configuration is cut."""
    readme = (ROOT / "README.md").read_text()
    (block,) = re.findall(r"^## Every day\n.*?^```\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    mine = clone.copy(tmp_path / "mine")
    for key in ("name", "email"):
        mine.git("config", f"user.{key}", "me@example.org")
    own = (lock := mine.folder / "dvc.lock").read_text()
    lock.write_text(own.replace(mine.outputs()["models/gpt"], "0" * 32 + ".dir"))
    mine.git("commit", "--quiet", "--all", "--message", "The authors' machine")
    lock.write_text(own)  # a newcomer has run it and committed nothing
    shorter = {"dropgpt try": "dropgpt try --seeds 2", "--step 430": "--step 3"}
    said = ""
    for line in block.splitlines():
        for words, fewer in shorter.items():
            line = line.replace(words, fewer)
        if ran := re.search(r"Ran experiment\(s\): (\S+)", said):
            line = line.replace("NAME", ran[1])
        done = subprocess.run(
            ["bash", "-c", line], cwd=mine.folder, env=environment(), capture_output=True, text=True
        )
        expected = {0, 1, 3} if "dropgpt try" in line else {0}  # 3: two seeds cannot tell
        assert done.returncode in expected, f"{line}: {done.stdout}{done.stderr}"
        said += done.stdout + done.stderr
    assert YAML(typ="safe").load(mine.folder / "params.yaml")["model"]["dropout"] == 0.2
    assert mine.git("status", "--porcelain").stdout == ""


def test_new_temperatures_only_sample_again(clone: Clone) -> None:
    output = clone.dvc("exp", "run", "-S", "sample.temperatures=[0.7]")
    assert stages_run(output) == ["sample"]
    assert list(clone.json("samples/variety.json")) == ["temperature 0.7"]


def test_runtime_changes_run_nothing(clone: Clone) -> None:
    assert stages_run(clone.dvc("exp", "run", "-S", "runtime.log_interval=1")) == []


@pytest.mark.slow
def test_extra_corpora_are_measured_the_same_way(clone: Clone) -> None:
    clone.dvc("exp", "run", "-S", "evaluate.extra_corpora=[corpora/1.txt]")
    extra = clone.summary()["extra_corpora"]["corpora/1.txt"]
    assert extra["documents"] == 9
    assert extra["perplexity"] == pytest.approx(math.exp(extra["loss"]))
    documents = pd.read_parquet(clone.folder / "data/evaluation/documents.parquet")
    assert documents.groupby("corpus").tokens.sum()["corpora/1.txt"] == extra["tokens"]


@pytest.mark.slow
def test_extra_corpora_are_read_as_the_corpus_is(clone: Clone) -> None:
    rows = "".join(json.dumps({"body": f"the cat sat {n}"}) + "\n" for n in range(3))
    (clone.folder / "corpora/extra.jsonl").write_text(rows)
    (clone.folder / "corpora/extra.md").write_bytes(b"the cat\r\n\r\nthe dog\r\n")
    names = ["corpora/extra.jsonl", "corpora/extra.md"]
    clone.set(evaluate={"extra_corpora": names}, data={"text_column": "body"})
    separator = r'data.separator="\n\n"'  # as a README says it, from a shell
    clone.dvc("exp", "run", "-S", separator, "evaluate")
    extra = clone.summary()["extra_corpora"]
    assert [extra[name]["documents"] for name in names] == [3, 2]
    evaluate = (sys.executable, "-m", "stages.evaluate")
    clone.set(data={"text_column": "text"})
    output = clone.run(*evaluate, ok=False).stderr
    assert "corpora/extra.jsonl, line 1: no key 'text' (data.text_column); it has body" in output
    clone.set(evaluate={"extra_corpora": ["corpora/no.txt"]})
    output = clone.run(*evaluate, ok=False).stderr
    assert "error: evaluate.extra_corpora is 'corpora/no.txt', which matches no file" in output


def test_a_result_of_parameters_that_were_edited_meanwhile_is_not_taken_for_theirs(
    clone: Clone,
) -> None:
    """The last outputs come back, and what was trained is kept for the parameters it is of."""
    before = clone.bytes()
    clone.set(train={"steps": 40}, runtime={"checkpoint_interval": 0})
    dvc = clone.start("repro", "train")
    wait_for(clone.saves)
    clone.set(model={"dropout": 0.5})
    output = dvc.communicate(timeout=300)[0]
    assert dvc.returncode != 0
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert line == (
        "error: train: params.yaml: model.dropout changed while it ran, so what it made is not of "
        "what stands there now: `dvc repro train` makes that"
    )
    assert "Traceback" not in output
    assert clone.bytes() == before
    clone.set(model={"dropout": 0.1})
    assert "going on after step 40 of 40" in clone.dvc("repro", "train")
    clone.set(model={"dropout": 0.5})
    assert stages_run(clone.dvc("repro", "train")) == ["train"]
    made = clone.json("models/gpt/provenance.json")["train"]["params"]
    assert made["model"]["dropout"] == 0.5


def test_held_out_text_is_held_out(clone: Clone) -> None:
    """A corpus that holds each document twice: once, unless both are asked for."""
    for number in range(3):
        content = (clone.folder / f"corpora/{number}.txt").read_text()
        (clone.folder / f"corpora/{number + 3}.txt").write_text(content)
    told = clone.dvc("repro", "download_fineweb")
    assert "warning: left out as copies of earlier documents of corpora/*.txt: 27 documents" in told
    assert "27 documents of" in told
    clone.set(data={"deduplicate": False}, evaluate={"extra_corpora": ["corpora/1.txt"]})
    told = clone.dvc("repro", "evaluate")
    held_out = clone.json("data/statistics.json")["validation_documents"]
    assert f"warning: {held_out} of {held_out} held-out documents, " in told
    assert "warning: 9 of 9 documents of corpora/1.txt, " in told
    assert "stand word for word in the training part, too" in told


def test_an_experiment_in_a_copy_tells_which_files_it_lacks(clone: Clone) -> None:
    (clone.folder / "corpora/3.txt").write_text("the cat sat " * 100)
    run = ("exp", "run", "--temp", "download_fineweb")
    output = clone.dvc(*run, "-n", "without", "-S", "data.text_column=a")  # so that it runs
    assert "in which DVC runs this experiment lacks 1 file such as corpora/3.txt; " in output
    clone.git("add", "corpora/3.txt")  # as the warning says
    output = clone.dvc(*run, "-n", "with", "-S", "data.text_column=a")
    assert "warning" not in output
    assert "28 documents" in output


def test_a_single_text_trains_and_its_end_is_held_out(clone: Clone) -> None:
    extra = ["corpora/one.txt", "corpora/copies.txt"]
    clone.set(data={"files": extra[0]}, evaluate={"extra_corpora": extra})
    clone.set(sample={"prompts": ["<|endoftext|>"]})
    (clone.folder / extra[1]).write_text("<|endoftext|>".join(["the cat", "the dog"] * 5))
    text = "\n".join((clone.folder / f"corpora/{n}.txt").read_text() for n in range(3))
    (clone.folder / "corpora/one.txt").write_text(text.replace("<|endoftext|>", "\n"))
    output = clone.dvc("repro")
    assert "warning: data.separator is '<|endoftext|>', which occurs nowhere in 1 text" in output
    assert re.search(r"held out: .*\(10\.\d%\), the end of corpora/one\.txt:1, the only", output)
    assert "(95% interval unknown, of one document)" in output
    assert "warning: corpora/one.txt:1 of corpora/one.txt was parted, and" in output
    assert "left out as copies of earlier documents of corpora/copies.txt: 8 documents; " in output
    assert clone.summary()["extra_corpora"][extra[1]]["documents"] == 2
    assert "null" not in output
    tokens, evaluate = clone.json("data/statistics.json"), clone.summary()
    assert (tokens["documents"], tokens["validation_documents"]) == (2, 1)
    assert evaluate["tokens"] == tokens["validation_tokens"]
    samples = json.loads((clone.folder / "samples/samples.json").read_text())
    assert {sample["prompt"] for sample in samples} == {"<|endoftext|>"}
    page = (clone.folder / "samples/samples.md").read_text()
    assert page.count(r"> <strong>\<\|endoftext\|\></strong>") == 4
    clone.dropgpt("report")
    page = (clone.folder / "reports/index.html").read_text()
    assert "95% interval over the articles: unknown, of one document" in page


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"model": {"dropout": 1.0}}, "params.yaml: model.dropout is 1.0: input should be less"),
        ({"model": {"n_ctx": 200}}, "part has"),
        ({"train": {"learning_rate": 100.0, "max_gradient_norm": None}}, "has run away"),
        ({"train": {"dropout_schedule": "early"}}, "dropout_switch_step must lie between 1 and 3"),
        ({"sample": {"prompts": ["word " * 50]}}, "params.yaml: sample.prompts.0 has 51 tokens"),
        *(  # whose words have a quick test of their own
            pytest.param(*mistake, marks=pytest.mark.slow)
            for mistake in [
                ({"model": {"dropuot": 0.1}}, "model.dropuot: unknown key; did you mean"),
                ({"data": {"files": "nowhere/*.txt"}}, "'nowhere/*.txt', which matches no"),
                ({"tokenize": {"validation_fraction": 0.99}}, "0.99 holds out every"),
            ]
        ),
    ],
)
def test_a_mistake_gives_one_line_and_leaves_earlier_results(
    clone: Clone, sections: dict[str, Any], said: str
) -> None:
    before = clone.bytes()
    clone.set(**sections)
    output = clone.dvc("repro", ok=False)
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert said in line
    assert clone.bytes() == before


@pytest.fixture
def small_disk(reproduced: Clone, tmp_path: Path) -> Iterator[Clone]:
    """A copy on a file system of its own, with room for 4 MB more."""
    size = sum(f.stat().st_size for f in reproduced.folder.rglob("*") if f.is_file()) + 4_000_000
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(tmp_path)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("it takes more rights to mount a small file system")
    yield reproduced.copy(tmp_path / "clone")
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_disk_gives_one_line_and_leaves_earlier_results(small_disk: Clone) -> None:
    before = small_disk.bytes()
    small_disk.set(model={"n_embd": 64})
    output = small_disk.dvc("repro", ok=False)
    assert "the disk is full" in output
    assert "Traceback" not in output
    assert small_disk.bytes() == before


STAGES = ["download_fineweb", "tokenize", "train", "evaluate", "sample"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_disk_that_is_full_as_a_stage_writes(small_disk: Clone, stage: str) -> None:
    before = small_disk.bytes()
    with suppress(OSError), (small_disk.folder / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))
    done = small_disk.run(sys.executable, "-m", f"stages.{stage}", ok=False)
    assert "error: the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert small_disk.bytes() == before


def flip(path: Path) -> None:
    """Change one bit in the middle of a file, as a failing disk does: its date stays."""
    mode, dates = path.stat().st_mode, (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(mode)
    os.utime(path, ns=dates)


@pytest.mark.parametrize(
    ("damaged", "stage"),
    [
        ("data/documents.parquet", "tokenize"),
        ("data/tokens/tokens.npy", "train"),
        ("models/gpt/model.safetensors", "evaluate"),
        pytest.param("data/tokens/documents.parquet", "evaluate", marks=pytest.mark.slow),
        pytest.param("models/gpt/config.json", "sample", marks=pytest.mark.slow),
    ],
)
def test_a_damaged_input_is_named_and_a_checkout_mends_it(
    clone: Clone, damaged: str, stage: str
) -> None:
    before = clone.bytes()
    flip(clone.folder / damaged)
    output = clone.dvc("repro", "--force", "--single-item", stage, ok=False)
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    folder = damaged.removesuffix("/" + Path(damaged).name) if "/" in damaged[5:] else damaged
    assert folder in line
    assert "Traceback" not in output
    follow(clone, line)
    assert clone.bytes() == before


def follow(clone: Clone, line: str) -> None:
    """Do what an error line says: remove the thing, and check it out."""
    command = re.search(r"remove the (?:file|folder), and `dvc (checkout \w+)`", line)
    named = re.search(r"[\w./]+", line.removeprefix("error: "))
    assert command
    assert named
    path = clone.folder / named[0].rstrip(":")
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    clone.dvc(*command[1].split())


def test_a_damaged_cache_entry_is_noticed(clone: Clone) -> None:
    before = clone.bytes()
    weights = clone.folder / "models/gpt/model.safetensors"
    md5 = hashlib.md5(weights.read_bytes()).hexdigest()
    entry = clone.folder / f".dvc/cache/files/md5/{md5[:2]}/{md5[2:]}"
    content = entry.read_bytes()
    flip(entry)
    shutil.rmtree(clone.folder / "models/gpt")
    clone.dvc("checkout")
    output = clone.dvc("repro", "--force", "--single-item", "evaluate", ok=False)
    assert "models/gpt is damaged: model.safetensors is not what train wrote there" in output
    # The command of docs/recovery.md finds it in the cache itself.
    (command,) = re.findall(r"^find \.dvc/cache.*$", (ROOT / "docs/recovery.md").read_text(), re.M)
    found = clone.run("sh", "-c", command, ok=False)
    assert [line for line in found.stdout.splitlines() if "FAILED" in line] == [
        f"{entry.relative_to(clone.folder)}: FAILED"
    ]
    entry.unlink()
    shutil.rmtree(clone.folder / "models/gpt")
    clone.dvc("repro")
    assert clone.bytes() == before
    assert entry.read_bytes() == content


def test_out_of_memory_gives_one_line(clone: Clone) -> None:
    before = clone.bytes()
    size = 3_000_000
    clone.set(train={"batch_size": size, "micro_batch_size": size, "sampling": "random"})
    command = f"ulimit -v 6000000; '{sys.executable}' -m dvc repro train"
    done = clone.run("sh", "-c", command, ok=False)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "out of memory; train.batch_size is 3000000, 3000000 windows at once" in line
    assert "set train.micro_batch_size below 3000000" in line
    assert "Traceback" not in done.stderr
    assert clone.bytes() == before


def test_no_credential_is_written_down(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "HF_ENDPOINT"):
        monkeypatch.setenv(name, "https://me:hf_secret@nowhere.invalid")
    output = clone.dvc("repro", "--force", "--single-item", "download_fineweb")
    output += clone.dvc("repro", "--force", "--single-item", "train")
    assert "hf_secret" not in output
    assert not [name for name, content in clone.bytes().items() if b"hf_secret" in content]


def test_more_steps_end_in_the_bytes_of_one_long_training(clone: Clone) -> None:
    constant = {"lr_schedule": "constant"}
    train = (sys.executable, "-m", "stages.train")
    clone.set(train=constant | {"steps": 9})
    clone.run(*train)
    whole = clone.bytes()
    clone.run(sys.executable, "-m", "dropgpt.training.checkpoint", "--remove")
    clone.set(train={"steps": 5})
    assert "going on" not in clone.run(*train).stderr
    clone.set(train={"steps": 9})
    assert "going on after step 5 of 9" in clone.dvc("repro", "train")
    assert clone.bytes() == whole


def test_dvc_called_by_its_path_finds_its_own_python(clone: Clone) -> None:
    before = clone.bytes()
    if not Path("/usr/bin/python3").exists():
        pytest.skip("there is no other Python")
    dvc = Path(sys.executable).with_name("dvc")
    path = "/usr/bin:/bin"
    command = ["env", f"PATH={path}", str(dvc), "repro", "--force", "--single-item", "train"]
    clone.run(*command)
    assert clone.bytes() == before
    alone = clone.run("env", f"PATH={path}", "python3", "-m", "stages.train", ok=False)
    assert alone.stderr.count("\n") == 1
    assert "source .venv/bin/activate" in alone.stderr
    code = (ROOT / "stages/__init__.py").read_text()
    ast.parse(code, feature_version=(3, 8))  # as old as one finds it


@pytest.mark.slow
def test_a_project_below_the_root_of_git(reproduced: Clone, tmp_path: Path) -> None:
    inner = reproduced.copy(tmp_path / "repository" / "inner")
    shutil.rmtree(inner.folder / ".git")
    inner.git("init", "--quiet", "--initial-branch", "main", at=tmp_path / "repository")
    config = inner.folder / ".dvc/config"
    assert "subdir" not in config.read_text()
    inner.commit()
    inner.dvc("exp", "run", "--name", "other", "--set-param", "model.dropout=0.5", "evaluate")
    found = json.loads(inner.dropgpt("compare", "HEAD", "other", "--json"))
    assert found["notes"] == []
    assert found["documents"][0]["difference"] != 0


@pytest.mark.slow
def test_documents_of_no_tokens_take_nothing_from_the_others(clone: Clone) -> None:
    """FineWeb has rows with an empty text; without <|endoftext|> they have no tokens."""
    clone.set(tokenize={"end_of_text": False})
    found = list(document.read(clone.folder / "data/documents.parquet"))
    empty = [Document("", f"empty-{n}", f"empty-{n}") for n in range(3)]

    def evaluated(documents: list[Document], *stages: str) -> pd.DataFrame:
        document.write(documents, clone.folder / "data/documents.parquet")
        for stage in stages:
            clone.run(sys.executable, "-m", f"stages.{stage}")
        return pd.read_parquet(clone.folder / "data/evaluation/documents.parquet")

    without = evaluated(found, "tokenize", "train", "evaluate")
    among = evaluated([*found[:-1], *empty[:2], found[-1], empty[2]], "tokenize", "evaluate")
    some = among[among.tokens > 0]
    assert some.id.tolist() == without.id.tolist()
    assert some.nats.tolist() == without.nats.tolist()
    assert among[among.tokens == 0].nats.tolist() == [0.0] * (len(among) - len(some))
    assert len(among) > len(some)
