"""A compiled training with dropout that is killed ends in the bytes of one that was not."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import params_with, token_tensor
from dropgpt.machine.hardware import prepare
from dropgpt.training.checkpoint import Checkpoint
from dropgpt.training.loop import train
from dropgpt.training.step_on_cpu import StepOnCPU
from dropgpt.training.step_on_gpu import StepOnGPU

STEPS = 30
KILLS = ["gradients 3", "update 11", "save 22"]  # before so many steps
SCHEDULES = {"lr_schedule": "constant", "dropout_schedule": "constant"}
INPUTS = {"train": {"params": {"train": {"steps": STEPS} | SCHEDULES}}}

needs = {
    "cpu": pytest.mark.skipif(not shutil.which("c++"), reason="torch.compile needs a compiler"),
    "cuda": pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
}


def train_until(folder: Path, device: str, kill: str) -> None:
    """Train, saving at each step, until `kill`; at the end write the md5 of all that came out."""
    for owner, name in ((StepOnCPU, "gradients"), (StepOnGPU, "gradients"), (StepOnCPU, "update"),
                        (StepOnGPU, "update"), (Checkpoint, "save")):  # fmt: skip
        _kill_in(owner, name, kill)
    ids = np.random.default_rng(0).integers(0, 50_257, 2_000).astype(np.uint16)
    params = params_with(
        model={"dropout": 0.2, "n_embd": 64},
        train={"steps": STEPS, "compile": True, "validation_interval": 10},
    )
    result = train(
        params.train,
        params.model,
        token_tensor(ids, ids[:200]),
        device=prepare(device, 2),
        dtype=torch.bfloat16 if device == "cuda" else torch.float32,
        log_interval=1e9,
        checkpoint=Checkpoint(folder / "state", 0, INPUTS),
    )
    digest = hashlib.md5()
    for parameter in result.model.parameters():
        digest.update(parameter.detach().cpu().numpy().tobytes())
    digest.update((result.steps.to_csv() + result.validations.to_csv()).encode())
    (folder / "md5").write_text(digest.hexdigest())


def _kill_in(owner: type, name: str, kill: str) -> None:
    plain = getattr(owner, name)

    def killed(self: object, *arguments: object) -> object:
        if kill == f"{name} {arguments[-1]}":
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(self, *arguments)

    setattr(owner, name, killed)


@pytest.mark.slow
@pytest.mark.parametrize(
    "device",
    [
        pytest.param("cpu", marks=needs["cpu"]),
        pytest.param("cuda", marks=[pytest.mark.gpu, needs["cuda"]]),
    ],
)
def test_killed_compiled_with_dropout_the_same_bytes(tmp_path: Path, device: str) -> None:
    """Three times; with the compiled code of the last time there, and without."""

    def attempt(training: str, cache: str, kill: str = "never") -> int:
        folder = tmp_path / training
        folder.mkdir(exist_ok=True)
        code = f"train_until(Path({str(folder)!r}), {device!r}, {kill!r})"
        command = f"from pathlib import Path; from test_killed_compiled import *; {code}"
        places = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([*places, os.environ.get("PYTHONPATH", "")]),
            "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / cache),
        }
        return subprocess.run([sys.executable, "-c", command], env=environment).returncode

    assert attempt("whole", "warm") == 0
    expected = (tmp_path / "whole" / "md5").read_text()
    for training in ("warm", "cold"):
        for number, kill in enumerate([*KILLS, "never"]):
            cache = training if training == "warm" else f"cold-{number}"
            ended = attempt(training, cache, kill)
            assert ended == (0 if kill == "never" else -signal.SIGKILL), kill
        assert (tmp_path / training / "md5").read_text() == expected
