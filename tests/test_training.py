import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import params_with
from dropgpt.errors import UserError
from dropgpt.training import Result, learning_rate, outcome, train
from dropgpt.vocabulary import N_VOCAB

RANDOM = np.random.default_rng(0)
TRAINING = RANDOM.integers(0, 50, 500).astype(np.uint16)
HELD_OUT = RANDOM.integers(0, 50, 100).astype(np.uint16)


def run(
    training: np.ndarray = TRAINING,
    held_out: np.ndarray = HELD_OUT,
    model: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
    **changes: Any,
) -> Result:
    params = params_with(model=model or {}, train={"warmup_steps": 1} | changes)
    device = torch.device("cpu")
    return train(params.model, params.train, training, held_out, device, dtype, 60)


def test_the_first_loss_is_that_of_a_uniform_guess_and_the_last_is_lower() -> None:
    result = run(steps=30, validation_interval=10, learning_rate=0.1)
    assert result.steps.loss[0] == pytest.approx(math.log(N_VOCAB), abs=0.02)
    assert result.looks.validation_loss[0] == pytest.approx(math.log(N_VOCAB), abs=0.02)
    assert result.looks.validation_loss.iloc[-1] < 8
    assert result.looks.step.tolist() == [0, 10, 20, 30]
    assert result.steps.step.tolist() == list(range(30))
    assert not result.model.training


def test_looking_more_often_does_not_change_the_training() -> None:
    often, seldom = run(validation_interval=1), run(validation_interval=4, validation_windows=1)
    pd.testing.assert_frame_equal(often.steps, seldom.steps, check_exact=True)
    for a, b in zip(often.model.parameters(), seldom.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_seed_alone_decides() -> None:
    torch.manual_seed(1)
    first = run()
    torch.manual_seed(2)
    assert run().steps.equals(first.steps)
    assert not run(seed=2).steps.equals(first.steps)


@pytest.mark.parametrize("micro_batch_size", [1, 3])
@pytest.mark.parametrize("loss", ["all_tokens", "final_token"])
def test_micro_batches_add_up_to_the_batch(micro_batch_size: int, loss: str) -> None:
    whole = run(model={"dropout": 0.0}, loss=loss)
    parts = run(model={"dropout": 0.0}, loss=loss, micro_batch_size=micro_batch_size)
    pd.testing.assert_frame_equal(whole.steps, parts.steps, rtol=1e-4)


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
def test_dropout_is_on_in_training_and_off_at_the_looks(dropout: float) -> None:
    result = run(model={"dropout": dropout}, steps=2, validation_interval=1)
    plain = run(model={"dropout": 0.0}, steps=2, validation_interval=1)
    assert (result.steps.loss[0] == plain.steps.loss[0]) == (dropout == 0)
    assert result.looks.validation_loss[0] == plain.looks.validation_loss[0]


def test_the_learning_rate() -> None:
    def rates(**changes: Any) -> list[float]:
        params = params_with(
            train={"steps": 10, "warmup_steps": 4, "learning_rate": 1.0} | changes
        ).train
        return [learning_rate(params, step) for step in range(10)]

    assert rates(decay="constant") == pytest.approx([0.2, 0.4, 0.6, 0.8] + [1.0] * 6)
    linear = rates(decay="linear", final_learning_rate=0.4)
    assert linear[4:] == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6, 0.5])
    cosine = rates(decay="cosine")
    assert cosine[4] == 1.0
    assert cosine[7] == pytest.approx(0.5)
    assert rates(decay="constant", warmup_steps=0) == [1.0] * 10


def test_gradients_are_clipped_to_the_norm() -> None:
    clipped = run(max_gradient_norm=1e-9, steps=3, weight_decay=0.0)
    free = run(max_gradient_norm=None, steps=3, weight_decay=0.0)
    assert free.steps.loss[0] == clipped.steps.loss[0]
    assert free.steps.gradient_norm[0] == clipped.steps.gradient_norm[0] > 1e-9
    assert free.steps.loss[2] < clipped.steps.loss[2]


def test_outcome() -> None:
    result = run(steps=5, validation_interval=2)
    found = outcome(result)
    assert found["loss"] == pytest.approx(result.steps.loss[4])
    assert found["validation_loss"] == result.looks.validation_loss.iloc[-1]
    assert found["best_validation_loss"] == result.looks.validation_loss.min()
    assert found["best_step"] in result.looks.step.tolist()


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    with pytest.raises(UserError, match=r"at step \d+ the loss is"):
        run(learning_rate=1e20, max_gradient_norm=None, steps=20)


def test_a_part_shorter_than_a_window() -> None:
    with pytest.raises(UserError, match="held-out part has 32 tokens, a window of model"):
        run(held_out=HELD_OUT[:32])
    with pytest.raises(UserError, match="training part has 10 tokens"):
        run(training=TRAINING[:10])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu_learns_as_the_cpu_does(dtype: torch.dtype) -> None:
    params = params_with(model={"dropout": 0.0}, train={"steps": 10})
    both = [
        train(params.model, params.train, TRAINING, HELD_OUT, torch.device(name), dtype, 60).steps
        for name in ("cpu", "cuda")
    ]
    pd.testing.assert_frame_equal(*both, rtol=0.05)
