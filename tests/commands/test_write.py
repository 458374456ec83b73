"""`dropgpt write`, as it is typed."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from clone import DROPGPT, Clone, environment, wait_for
from conftest import ROOT, TINY, message, needs_fork
from dropgpt.commands import write
from dropgpt.comparison import experiments
from dropgpt.errors import UserError
from dropgpt.machine.repository import maker
from dropgpt.model import artifact
from dropgpt.model.gpt import GPT

BEGINNING = "the cat"
HINT = (
    "`dvc repro train` in the project's root makes a model in models/gpt, and docs/other-models.md "
    "says how to fetch one from the hub"
)


def test_it_writes_what_the_stage_sampled(clone: Clone) -> None:
    """By the same seed, temperature and tokens; the prompt stands before it."""
    samples = json.loads((clone.folder / "samples/samples.json").read_text())
    sampled = next(s for s in samples if s["temperature"] == 0.8)
    arguments = ["write", sampled["prompt"], "--seed", "1", "--tokens", "5"]
    assert clone.dropgpt(*arguments) == f"{sampled['prompt']}{sampled['text']}\n"


def test_without_a_seed_it_tells_the_new_one(clone: Clone, tmp_path: Path) -> None:
    model = str(clone.folder / "models/gpt")  # from any other folder
    first = clone.run(DROPGPT, "write", BEGINNING, "--model", model, at=tmp_path)
    assert first.stdout.startswith(BEGINNING)
    assert first.stderr.startswith("write: --seed ")
    seed = first.stderr.split()[1:3]
    again = clone.run(DROPGPT, "write", BEGINNING, "--model", model, *seed, at=tmp_path)
    assert (again.stdout, again.stderr) == (first.stdout, "")
    other = clone.run(DROPGPT, "write", BEGINNING, "--model", model, at=tmp_path)
    assert other.stdout != first.stdout


def test_a_prompt_beyond_the_context_is_told(clone: Clone) -> None:
    read = TINY["model"]["n_ctx"]
    told = f"write: the prompt has {read + 1} tokens, and the model reads the last {read}\n"
    for prompt, said in ((" a" * read, ""), (" a" * (read + 1), told)):
        written = clone.run(DROPGPT, "write", prompt, "--seed", "1", "--tokens", "1")
        assert (written.stdout.startswith(prompt), written.stderr) == (True, said)


def test_a_full_gpu_is_told_as_that(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(GPT, "to", full)
    with pytest.raises(UserError, match="write: out of memory; `CUDA_VISIBLE_DEVICES= dropgpt wri"):
        write.run(BEGINNING, clone.folder / "models/gpt", 1.0, 5, None, None, 1)


@pytest.mark.slow
def test_the_options_reach_the_model(clone: Clone) -> None:
    greedy = clone.dropgpt("write", "--temperature", "0", "--seed", "1")
    assert clone.dropgpt("write", "--top-k", "1", "--seed", "2") == greedy
    assert clone.dropgpt("write", "--top-p", "1e-9", "--seed", "3") == greedy


@needs_fork
def test_ctrl_c_ends_it_quietly(clone: Clone) -> None:
    """After what has been written by then, which is not held back until the end."""
    command = [DROPGPT, "write", BEGINNING, "--tokens", "1000000", "--seed", "1"]
    process = subprocess.Popen(
        command,
        cwd=clone.folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # it may be ignored here
    )
    assert process.stdout is not None
    begun = process.stdout.read(len(BEGINNING) + 1)
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert begun.startswith(BEGINNING)
    assert rest.endswith("\n")
    assert errors == ""
    assert process.returncode == 130


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "gpt2"], f"gpt2: no such folder; {HINT}\n"),
        (["--model", "params.yaml"], "params.yaml is a file: name its folder\n"),
        (["--model", "corpora"], "corpora/config.json: not to be read"),
        (["--top-p", "2"], "write: top_p is 2.0: input should be less than or equal to 1"),
        (["a \udcff"], r"write: prompt is 'a \udcff': it is not UTF-8"),
    ],
)
def test_a_mistake_is_told_in_a_line(clone: Clone, arguments: list[str], said: str) -> None:
    assert clone.dropgpt("write", *arguments, ok=False).startswith(f"error: {said}")


def test_the_page_that_the_error_names_says_how_to_fetch_a_model() -> None:
    assert 'from_pretrained("gpt2")' in (ROOT / artifact.HUB_PAGE).read_text()


def test_a_model_that_is_being_made(
    reproduced: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC has removed the last one before it runs the stage."""
    clone = reproduced.copy(tmp_path / "clone")
    clone.set(train={"steps": 100_000})
    dvc = clone.start("repro")
    model = clone.folder / artifact.TRAINED
    try:
        wait_for(clone.processes)
        wait_for(lambda: maker(model))
        line = "models/gpt is being made: `dvc repro` runs"
        assert clone.dropgpt("write", ok=False) == f"error: {line}\n"
        with pytest.raises(UserError) as error:  # as `dropgpt export` does
            artifact.load(model)
        assert message(error).endswith(line)
        (clone.folder / "dvc.lock").unlink()  # as before the first evaluation
        shutil.rmtree(clone.folder / "data/evaluation")
        monkeypatch.chdir(clone.folder)
        with pytest.raises(UserError, match="data/evaluation is being made: `dvc repro` runs"):
            experiments.read("workspace")  # as `dropgpt report` and `compare` do
    finally:
        os.killpg(dvc.pid, signal.SIGKILL)
        dvc.communicate()
    assert "models/gpt" in (clone.folder / ".dvc/tmp/rwlock").read_text()
    assert maker(model) is None  # though DVC could not note that it has ended
