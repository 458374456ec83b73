import math
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import message, params_with, second_of_two, token_tensor
from dropgpt.errors import UserError
from dropgpt.evaluation import window_loss
from dropgpt.machine.interruption import Interrupted
from dropgpt.tokens.vocabulary import N_VOCAB
from dropgpt.training.checkpoint import Checkpoint
from dropgpt.training.loop import Result, outcome, train
from dropgpt.training.schedules import dropout_factor, learning_rate, stable_steps
from dropgpt.training.state import State
from dropgpt.training.step_on_cpu import StepOnCPU
from dropgpt.training.step_on_gpu import StepOnGPU

RANDOM = np.random.default_rng(0)
TRAINING = RANDOM.integers(0, 50, 500).astype(np.uint16)
SCHEDULES = {"lr_schedule": "constant", "dropout_schedule": "constant"}
INPUTS = {"train": {"params": {"train": {"steps": 4} | SCHEDULES}, "environment": {"threads": 1}}}
HELD_OUT = RANDOM.integers(0, 50, 100).astype(np.uint16)


class Forgotten(Checkpoint):
    """Of a training that nobody stops."""

    def __init__(self) -> None:
        super().__init__(Path("none"), 0, {})
        self.state: State | None = None

    def save(self, state: State, step: int) -> None:
        self.state = {name: tensor.clone() for name, tensor in state.items()}

    def load(self) -> State | None:
        return self.state


@contextmanager
def stopped_at(step: int) -> Iterator[None]:
    """The signal comes at the begin of step `step`."""

    def disturbed(gradients: Callable[..., Any]) -> Callable[..., Any]:
        def with_signal(self: Any, number: int) -> Any:
            if number == step:
                signal.raise_signal(signal.SIGTERM)
            return gradients(self, number)

        return with_signal

    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(Interrupted, match=f"SIGTERM after step {step} of [46], saved"),
    ):
        for kind in (StepOnCPU, StepOnGPU):
            patch.setattr(kind, "gradients", disturbed(kind.gradients))
        yield


def run(
    training: np.ndarray = TRAINING,
    held_out: np.ndarray = HELD_OUT,
    model: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
    checkpoint: Checkpoint | None = None,
    log_interval: float = 60,
    device: str = "cpu",
    **changes: Any,
) -> Result:
    params = params_with(model=model or {}, train={"warmup_steps": 1} | changes)
    place = torch.device(device)
    saved = checkpoint or Forgotten()
    return train(
        params.train,
        params.model,
        token_tensor(training, held_out),
        device=place,
        dtype=dtype,
        log_interval=log_interval,
        checkpoint=saved,
    )


def test_the_first_loss_is_that_of_a_uniform_guess_and_the_last_is_lower() -> None:
    result = run(steps=30, validation_interval=10, learning_rate=0.1)
    assert result.steps.loss[0] == pytest.approx(math.log(N_VOCAB), abs=0.02)
    assert result.validations.validation_loss[0] == pytest.approx(math.log(N_VOCAB), abs=0.02)
    assert result.validations.validation_loss.iloc[-1] < 8
    assert result.validations.step.tolist() == [0, 10, 20, 30]
    assert result.steps.step.tolist() == list(range(30))
    assert not result.model.training


def test_validating_more_often_does_not_change_the_training() -> None:
    often, seldom = run(validation_interval=1), run(validation_interval=4, validation_windows=1)
    pd.testing.assert_frame_equal(often.steps, seldom.steps, check_exact=True)
    for a, b in zip(often.model.parameters(), seldom.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_schedules_of_dropout() -> None:
    def factors(schedule: str, switch_step: int = 0) -> list[float]:
        changes = {"dropout_schedule": schedule, "dropout_switch_step": switch_step}
        params = params_with(train={"steps": 5} | changes).train
        return [dropout_factor(params, step) for step in range(5)]

    assert factors("constant") == [1] * 5
    assert factors("early", 2) == [1, 1, 0, 0, 0]
    assert factors("late", 2) == [0, 0, 1, 1, 1]
    assert factors("linear_up") == [0, 0.25, 0.5, 0.75, 1]
    assert factors("linear_up_from_half") == [0.5, 0.625, 0.75, 0.875, 1]
    assert factors("linear_down") == [1, 0.75, 0.5, 0.25, 0]


def test_a_schedule_changes_the_steps_with_dropout_and_no_others() -> None:
    """The losses of steps with and without dropout are, bit for bit, those of constant rates."""
    on, off = run().steps, run(model={"dropout": 0.0}).steps
    late = run(dropout_schedule="late", dropout_switch_step=2).steps
    early = run(dropout_schedule="early", dropout_switch_step=2).steps
    assert late[:2].equals(off[:2])
    assert early[:2].equals(on[:2])
    assert late.loss[2] != off.loss[2]
    assert early.loss[2] != on.loss[2]


def test_the_seed_alone_decides() -> None:
    torch.manual_seed(1)
    first = run()
    torch.manual_seed(2)
    assert run().steps.equals(first.steps)
    assert not run(seed=2).steps.equals(first.steps)


@pytest.mark.parametrize("micro_batch_size", [1, 3])
@pytest.mark.parametrize("loss", ["all_tokens", "final_token"])
def test_micro_batches_add_up_to_the_batch(micro_batch_size: int, loss: str) -> None:
    whole = run(loss=loss)
    parts = run(loss=loss, micro_batch_size=micro_batch_size)
    pd.testing.assert_frame_equal(whole.steps, parts.steps, rtol=1e-4)


def test_the_number_of_threads_changes_rounding_only(threads: Callable[[int], None]) -> None:
    """The masks, too, are the same."""
    found = []
    for number in (1, 2, 3, 7):
        threads(number)
        found.append(run(optimizer="adamw", micro_batch_size=3).steps)
        assert found[-1].equals(run(optimizer="adamw", micro_batch_size=3).steps)
        pd.testing.assert_frame_equal(found[0], found[-1], rtol=1e-4)


def test_bfloat16_stays_near_float32() -> None:
    model = {"dropout": 0.0}
    pd.testing.assert_frame_equal(
        run(model=model, steps=10).steps,
        run(model=model, steps=10, dtype=torch.bfloat16).steps,
        rtol=0.05,
    )


def test_final_token_measures_the_last_token_of_each_window_only() -> None:
    """A corpus in which only the token after n_ctx others is not a 1."""
    training = np.ones(33, dtype=np.uint16)
    training[-1] = 2
    result = run(training, training, loss="final_token", steps=30)
    z = result.model(torch.ones(1, 32, dtype=torch.int64))[0]
    assert z[-1].argmax() == 2
    assert z[-1].softmax(0)[1] < 0.01


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_dropout_is_on_in_training_and_off_in_validation(dropout: float) -> None:
    result = run(model={"dropout": dropout}, steps=2, validation_interval=1)
    plain = run(model={"dropout": 0.0}, steps=2, validation_interval=1)
    assert (result.steps.loss[0] == plain.steps.loss[0]) == (dropout == 0)
    assert result.validations.validation_loss[0] == plain.validations.validation_loss[0]


def test_tokens_are_replaced_in_training_and_not_in_validation() -> None:
    replaced, plain = (run(token_replacement=rate) for rate in (0.2, 0.0))
    assert replaced.steps.loss[0] != plain.steps.loss[0]
    assert replaced.validations.validation_loss[0] == plain.validations.validation_loss[0]


def test_the_learning_rate() -> None:
    def rates(**changes: Any) -> list[float]:
        params = params_with(
            train={"steps": 10, "warmup_steps": 4, "learning_rate": 1.0} | changes
        ).train
        return [learning_rate(params, step) for step in range(params.steps)]

    assert rates(lr_schedule="constant") == pytest.approx([0.2, 0.4, 0.6, 0.8] + [1.0] * 6)
    linear = rates(lr_schedule="linear", final_learning_rate=0.4)
    assert linear[4:] == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6, 0.5])
    cosine = rates(lr_schedule="cosine")
    assert cosine[4] == 1.0
    assert cosine[7] == pytest.approx(0.5)
    assert rates(lr_schedule="constant", warmup_steps=0) == [1.0] * 10
    wsd = rates(lr_schedule="wsd", warmup_steps=2, final_learning_rate=0.4)
    assert wsd[2:] == pytest.approx([1.0] * 7 + [0.7])
    long = rates(lr_schedule="wsd", warmup_steps=2, steps=40)
    assert long[2:] == pytest.approx([1.0] * 31 + [1 - n / 8 for n in range(1, 8)])
    assert rates(lr_schedule="wsd", warmup_steps=0, steps=1) == [1.0]


def test_a_longer_training_with_wsd_begins_as_a_shorter_one() -> None:
    """To the last step at the full rate, after which the shorter one has begun to decay."""
    short, long = (run(lr_schedule="wsd", steps=steps) for steps in (6, 9))
    whole = stable_steps(6) + 1
    assert short.steps[:whole].equals(long.steps[:whole])
    assert short.steps.learning_rate[whole] < long.steps.learning_rate[whole]


def test_gradients_are_clipped_to_the_norm() -> None:
    clipped = run(max_gradient_norm=1e-9, steps=3, weight_decay=0.0)
    free = run(max_gradient_norm=None, steps=3, weight_decay=0.0)
    assert free.steps.loss[0] == clipped.steps.loss[0]
    assert free.steps.gradient_norm[0] == clipped.steps.gradient_norm[0] > 1e-9
    assert free.steps.loss[2] < clipped.steps.loss[2]


def test_outcome() -> None:
    result = run(steps=5, validation_interval=2)
    found = outcome(result)
    assert found["train_loss"] == pytest.approx(result.steps.loss[4])
    best = result.validations.set_index("step").validation_loss[found["best_step"]]
    assert best == result.validations.validation_loss.min()


def same(a: Result, b: Result) -> bool:
    weights = zip(a.model.parameters(), b.model.parameters(), strict=True)
    same_weights = all(torch.equal(x, y) for x, y in weights)
    return same_weights and a.steps.equals(b.steps) and a.validations.equals(b.validations)


@pytest.mark.parametrize("stop", range(6))
def test_a_stopped_training_ends_as_if_it_had_not_been(stop: int) -> None:
    changes: dict[str, Any] = {"steps": 6, "validation_interval": 2, "micro_batch_size": 3}
    checkpoint = Forgotten()
    with stopped_at(stop):
        run(checkpoint=checkpoint, **changes)
    assert same(run(checkpoint=checkpoint, **changes), run(**changes))
    assert same(run(checkpoint=checkpoint, **changes), run(**changes))  # again, from its end


def test_a_training_stopped_at_its_last_validation_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def validate(*arguments: Any) -> float:
        if next(validations) == 2:
            signal.raise_signal(signal.SIGTERM)
        return window_loss(*arguments)

    validations = count()
    checkpoint = Forgotten()
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="after step 4 of 4"):
        patch.setattr("dropgpt.training.loop.window_loss", validate)
        run(checkpoint=checkpoint)
    assert same(run(checkpoint=checkpoint), run())


@pytest.mark.parametrize(
    "changes",
    [{"sampling": "epoch"}, {"sampling": "random"}, {"optimizer": "adamw"}],
    ids=str,
)
def test_a_training_stopped_at_each_step_ends_as_if_it_had_not_been(
    changes: dict[str, Any],
) -> None:
    checkpoint = Forgotten()
    for step in range(4):
        with stopped_at(step):
            run(checkpoint=checkpoint, **changes)
    assert same(run(checkpoint=checkpoint, **changes), run(**changes))


def test_the_share_of_the_hardware_s_arithmetic_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(log_interval=1e-9)
    assert "FLOP/s" not in capsys.readouterr().err  # of a CPU the peak is not known
    monkeypatch.setattr("dropgpt.training.loop.peak_flops", lambda *_: 989e12)
    run(log_interval=1e-9)
    assert re.search(r"tokens/s.*held-out \d+\.\d+, 0% of 989 TFLOP/s", capsys.readouterr().err)
    second_of_two(monkeypatch)  # which tells nothing
    run()
    assert not capsys.readouterr().err


def test_a_machine_that_cannot_compile_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch says it where it finds no compiler."""
    from torch._dynamo.exc import BackendCompilerFailed

    def failing(*_: Any) -> torch.Tensor:
        raise BackendCompilerFailed(
            str, RuntimeError("No working C++ compiler found\nin PATH"), None
        )

    monkeypatch.setattr("dropgpt.training.step_on_cpu.compiled", lambda model: failing)
    with pytest.raises(UserError, match=r"cannot work here \(.*C\+\+.*set train\.compile to false"):
        run(compile=True)


def test_held_out_losses_are_told_from_the_first_that_training_has_changed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = run(log_interval=1e-9)
    lines = [line for line in capsys.readouterr().err.splitlines() if "loss" in line]
    measured = result.validations.validation_loss
    assert f"held-out {measured[1]:.3f}" in lines[-1]
    first = ["held-out" in line for line in lines].index(True)
    assert first > 0
    assert not any(f"held-out {measured[0]:.3f}" in line for line in lines[:first])


def test_saving_and_logging_do_not_change_the_training(tmp_path: Path) -> None:
    assert same(run(checkpoint=Checkpoint(tmp_path / "state", 0, INPUTS), log_interval=1e-9), run())


TOO_HIGH: dict[str, Any] = {  # 1e30 for the embedding, so that logits are beyond float32
    "learning_rate": 1e15,
    "token_embedding_rate_factor": 1e15,
    "max_gradient_norm": None,
}


def test_a_loss_that_is_not_finite_stops_the_training_and_keeps_the_last_good_state(
    tmp_path: Path,
) -> None:
    changes: dict[str, Any] = {
        **TOO_HIGH,
        "steps": 20,
        "validation_interval": 100,
    }
    checkpoint = Checkpoint(tmp_path / "state", 0, INPUTS)
    with pytest.raises(UserError, match=r"at step \d+ the loss is") as error:
        run(checkpoint=checkpoint, **changes)
    step = int(message(error).split("at step ")[1].split()[0])
    state = checkpoint.load()
    assert state is not None
    assert len(state["steps"]) == step - 1
    assert all(tensor.isfinite().all() for tensor in state.values())


class EveryThird(Forgotten):
    """Saves at every third step."""

    def due(self) -> bool:
        self.steps = getattr(self, "steps", 0) + 1
        return self.steps % 3 == 0


def test_numbers_that_are_read_later_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, which would have to be waited for at each step."""
    expected = run(steps=6)
    monkeypatch.setattr(StepOnCPU, "unread", 4)
    checkpoint = EveryThird()
    with stopped_at(4):
        run(steps=6, checkpoint=checkpoint)
    assert same(run(steps=6, checkpoint=checkpoint), expected)


def test_a_loss_that_is_not_finite_is_caught_before_anything_is_saved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(StepOnCPU, "unread", 100)
    checkpoint = EveryThird()
    with pytest.raises(UserError, match=r"at step \d+ the loss is"):
        run(
            **TOO_HIGH,
            steps=20,
            validation_interval=100,
            checkpoint=checkpoint,
        )
    assert checkpoint.state is None or all(t.isfinite().all() for t in checkpoint.state.values())


def test_a_held_out_loss_that_is_not_finite_stops_the_training() -> None:
    with pytest.raises(UserError, match=r"at step 1 the held-out loss is"):
        run(**TOO_HIGH, steps=20, validation_interval=1)


def test_a_training_that_has_run_away_says_so() -> None:
    with pytest.raises(UserError, match=r"at step \d the held-out loss is .* has run away"):
        run(learning_rate=100.0, max_gradient_norm=None, steps=3, validation_interval=1)


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, MemoryError, RuntimeError])
def test_out_of_memory_names_what_to_lower(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def full(*_: Any) -> float:
        raise kind("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(StepOnCPU, "gradients", full)
    with pytest.raises(UserError) as error:
        run(micro_batch_size=3)
    assert "train, on cpu: out of memory; train.batch_size is 4" in message(error)
    assert "set train.micro_batch_size below 3" in message(error)
    with pytest.raises(UserError) as error:
        run(micro_batch_size=1)
    assert "out of memory; lower model.n_ctx, model.n_layer" in message(error)


def test_a_training_on_so_many_tokens_reads_no_others() -> None:
    assert same(run(tokens=100), run(training=TRAINING[:100]))
    assert not same(run(tokens=100), run())


def test_more_tokens_than_there_are() -> None:
    with pytest.raises(UserError, match=r"train\.tokens is 501, and the training part has only"):
        run(tokens=501)


def test_a_part_shorter_than_a_window() -> None:
    with pytest.raises(UserError, match="held-out part has 32 tokens, a window of model"):
        run(held_out=HELD_OUT[:32])
    with pytest.raises(UserError, match="training part has 10 tokens"):
        run(training=TRAINING[:10])


def test_a_gradient_that_is_not_finite_stops_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.nn.utils.get_total_norm", lambda _: torch.tensor(math.inf))
    with pytest.raises(UserError, match=r"at step 0 the loss is .* gradient's norm is inf"):
        run()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("c++"), reason="torch.compile needs a compiler")
def test_a_compiled_training_is_the_same_within_rounding_and_goes_on_bit_for_bit(
    threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    threads(2)
    model = {"n_layer": 1, "n_embd": 16, "dropout": 0.1}
    changes: dict[str, Any] = {"model": model, "micro_batch_size": 2, "optimizer": "adamw"}
    compiled = run(compile=True, **changes)
    pd.testing.assert_frame_equal(compiled.steps, run(**changes).steps, rtol=1e-4)
    checkpoint = Forgotten()
    with stopped_at(2):
        run(compile=True, checkpoint=checkpoint, **changes)
    assert same(run(compile=True, checkpoint=checkpoint, **changes), compiled)


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu_learns_as_the_cpu_does(dtype: torch.dtype) -> None:
    both = [
        run(model={"dropout": 0.0}, dtype=dtype, steps=10, device=name).steps
        for name in ("cpu", "cuda")
    ]
    pd.testing.assert_frame_equal(*both, rtol=0.05)


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("compile_", [True, False])
def test_a_training_stopped_on_a_gpu_ends_as_if_it_had_not_been(compile_: bool) -> None:
    changes: dict[str, Any] = {"device": "cuda", "compile": compile_, "dtype": torch.bfloat16}
    checkpoint = Forgotten()
    with stopped_at(3):
        run(checkpoint=checkpoint, **changes)
    assert same(run(checkpoint=checkpoint, **changes), run(**changes))


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_cuda_graph_has_the_bits_of_the_step_without(
    monkeypatch: pytest.MonkeyPatch, optimizer: str, dtype: torch.dtype
) -> None:
    """With dropout; and no two steps have the same masks."""
    changes: dict[str, Any] = {
        "device": "cuda",
        "dtype": dtype,
        "optimizer": optimizer,
        "steps": 20,
        "learning_rate": 1e-30,  # so that losses differ by their masks and windows alone
        "training": np.resize(np.arange(32, dtype=np.uint16), 3200),  # and windows do not differ
    }
    found = run(**changes)
    assert found.steps.loss.nunique() == 20
    monkeypatch.setattr(StepOnGPU, "_made_graphs", lambda *_: None)
    assert same(run(**changes), found)


@pytest.mark.gpu
@gpu
@pytest.mark.slow
def test_a_large_batch_on_a_gpu_has_the_same_bits_again() -> None:
    """There the attention of other projects began to differ."""
    training = np.random.default_rng(0).integers(0, 50_257, 50_000).astype(np.uint16)
    changes: dict[str, Any] = {
        "model": {"n_layer": 4, "n_head": 12, "n_embd": 768, "n_ctx": 256},
        "training": training,
        "held_out": training[:1000],
        "batch_size": 128,
        "steps": 10,
        "dtype": torch.bfloat16,
        "device": "cuda",
    }
    assert same(run(**changes), run(**changes))
