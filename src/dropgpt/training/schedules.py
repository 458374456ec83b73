"""What changes from step to step: the learning rate, and how much is dropped."""

import math

from dropgpt.params import Train

DECAY = 5  # `wsd` decays in the last fifth of the steps


def learning_rate(params: Train, step: int) -> float:
    """The rate of step `step`: linear warm-up from 0, then as `lr_schedule` says to the end.

    wsd: constant, and linear to the end from `stable_steps` on (warm-up, stable, decay; Hägele et
    al. 2024, arXiv 2405.18392).
    """
    if step < params.warmup_steps:
        return params.learning_rate * (step + 1) / (params.warmup_steps + 1)
    progress = (step - params.warmup_steps) / max(1, params.steps - params.warmup_steps)
    match params.lr_schedule:
        case "constant":
            left = 1.0
        case "linear":
            left = 1 - progress
        case "cosine":
            left = (1 + math.cos(math.pi * progress)) / 2
        case "wsd":
            stable = stable_steps(params.steps)
            left = min(1.0, (params.steps - step) / (params.steps - stable))
    return params.final_learning_rate + left * (params.learning_rate - params.final_learning_rate)


def stable_steps(steps: int) -> int:
    """After how many of its steps a training with `wsd` begins to decay."""
    return steps - math.ceil(steps / DECAY)


def dropout_factor(params: Train, step: int) -> float:
    """By what the dropout rates are multiplied at step `step`, 0 to 1.

    early, late: 1 before or from `dropout_switch_step`, else 0. linear_up: from 0 at the first
    step to 1 at the last; linear_up_from_half: from 1/2 to 1; linear_down: from 1 to 0.
    """
    progress = step / max(1, params.steps - 1)
    match params.dropout_schedule:
        case "constant":
            return 1.0
        case "early":
            return float(step < params.dropout_switch_step)
        case "late":
            return float(step >= params.dropout_switch_step)
        case "linear_up":
            return progress
        case "linear_up_from_half":
            return (1 + progress) / 2
        case "linear_down":
            return 1 - progress


def bound_to_steps(lr_schedule: str, dropout_schedule: str) -> str | None:
    """What in the schedules follows the number of steps, so that a longer training begins anew."""
    if lr_schedule != "constant":
        return f"train.lr_schedule {lr_schedule}"
    if dropout_schedule.startswith("linear"):
        return f"train.dropout_schedule {dropout_schedule}"
    return None
