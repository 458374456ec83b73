"""A model small enough to train in a second, and its parameters."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings
from ruamel.yaml import YAML

from dropgpt.errors import UserError
from dropgpt.machine.hardware import prepare
from dropgpt.machine.interruption import SIGNALS
from dropgpt.machine.threads import number as number_of_threads
from dropgpt.machine.threads import set_number
from dropgpt.model.gpt import GPT, initialised
from dropgpt.params import Data, DropoutSites, Model, Params
from dropgpt.tokens.tensor import Tokens, TokenTensor
from dropgpt.tokens.vocabulary import N_VOCAB

ROOT = Path(__file__).parent.parent

TINY: dict[str, dict[str, Any]] = {
    "tokenize": {"validation_fraction": 0.1},
    "model": {
        "n_layer": 2,
        "n_head": 2,
        "n_embd": 16,
        "n_ctx": 32,
        "dropout": 0.1,
        "scale_logits": True,
        "token_embedding_std": None,
    },
    "train": {"steps": 4, "batch_size": 4, "validation_interval": 2, "validation_windows": 2},
    "evaluate": {"stride": 16},
    "sample": {"tokens": 5},
}

needs_ctrl_c = pytest.mark.skipif(
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
    reason="these tests were started with nohup or in the background, and so are their processes",
)
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="takes long without fork")

# `make test` tries the same examples each time, `make test-slow` goes out to find others.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=2000, deadline=None)
settings.load_profile("same")


def params_with(**sections: dict[str, Any]) -> Params:
    """params.yaml as it stands, made tiny, with changes: params_with(train={"steps": 2})."""
    values = deepcopy(_params_as_they_stand())
    for changes in (TINY, sections):
        for section, change in changes.items():
            values[section].update(change)
    return Params.model_validate(values)


@cache  # hundreds of tests ask, and to read them takes long
def _params_as_they_stand() -> Any:
    return YAML(typ="safe").load(ROOT / "params.yaml")


def tiny_model(**changes: Any) -> Model:
    """The model section; rates of single sites may be given by the site's name."""
    sites = {site: changes.pop(site, None) for site in DropoutSites.model_fields}
    return params_with(model=changes | {"dropout_sites": sites}).model


def token_tensor(training: Tokens, held_out: Tokens, n_vocab: int = N_VOCAB) -> TokenTensor:
    """Of two documents, one to train on and one to hold out."""
    lengths = {"tokens": [len(training), len(held_out)], "held_out": [False, True]}
    return TokenTensor(np.concatenate([training, held_out]), pd.DataFrame(lengths), n_vocab)


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_TOKEN", "HF_HUB_CACHE":
        monkeypatch.delenv(name, raising=False)
    for name in "NO_PROXY", "no_proxy":
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    # The hub's client pauses for 23 seconds between its attempts. A test need not.
    (tmp_path / "sitecustomize.py").write_text("import time\ntime.sleep = lambda seconds: None\n")
    path = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{path}" if path else str(tmp_path))
    return monkeypatch


@pytest.fixture(autouse=True, scope="session")
def prepared() -> None:
    """The tests compute as the stages do."""
    prepare()


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets how many threads there are to work on, for one test."""
    before = number_of_threads()
    yield set_number
    set_number(before)


@pytest.fixture
def handlers_put_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("DVC_STAGE", raising=False)
    before = [signal.getsignal(number) for number in SIGNALS]
    for number in SIGNALS:  # `nohup make test &` has them ignored, and then they stay so
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def make_gpt() -> Callable[..., GPT]:
    def make(seed: int = 1, n_vocab: int = N_VOCAB, **changes: Any) -> GPT:
        return initialised(tiny_model(**changes), seed, n_vocab)

    return make


def data_params(**values: Any) -> Data:
    defaults = {
        "source": "files",
        "documents": 3,
        "dataset": None,
        "config": None,
        "revision": None,
        "split": "train",
        "held_out_split": None,
        "files": "corpora/*.txt",
        "text_column": "text",
        "separator": "<|endoftext|>",
        "deduplicate": False,
    }
    return Data.model_validate(defaults | values)


def second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchrun tells it to the processes that it starts on one machine."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "one")
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "1")
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")


def message(error: pytest.ExceptionInfo[UserError]) -> str:
    """What the user reads: one line."""
    assert "\n" not in str(error.value)
    return str(error.value)


def killed_before(line: int, work: Callable[[], None]) -> bool:
    """Do `work` in a process that is killed before the line of this number, if there is one.

    Lines of the project and of pathlib count, in the order in which they run.
    """

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal line
        if not any(part in frame.f_code.co_filename for part in (str(ROOT / "src"), "pathlib")):
            return None
        if event == "line":
            if line == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            line -= 1
        return trace

    process = os.fork()
    if process == 0:
        try:
            sys.settrace(trace)
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A clone in which `dvc repro` has run once and been committed."""
    from clone import Clone, stages_run  # which imports from here

    clone = Clone(tmp_path_factory.mktemp("clone"))
    output = clone.dvc("repro")
    assert stages_run(output) == ["download_fineweb", "tokenize", "train", "evaluate", "sample"]
    assert "loss" in output
    clone.commit()
    clone.keep()
    shutil.copytree(clone.run_cache, clone.run_cache.with_name("committed"))
    return clone


@pytest.fixture
def clone(reproduced: Any) -> Iterator[Any]:
    """The same, put back afterwards to what was committed; DVC forgets what else has run."""
    before = reproduced.stamps()
    yield reproduced
    reproduced.git("checkout", "--quiet", "--force", "HEAD")
    reproduced.git("clean", "--quiet", "--force", "-d")
    if reproduced.stamps() != before:
        reproduced.put_back()
    for left in (reproduced.folder / "checkpoints").glob("*.safetensors"):
        left.unlink()  # one that has ended would be taken for the same training of another test
    shutil.rmtree(reproduced.run_cache, ignore_errors=True)
    shutil.copytree(reproduced.run_cache.with_name("committed"), reproduced.run_cache)
