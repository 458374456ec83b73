import pytest

from conftest import params_with
from dropgpt.training.schedules import bound_to_steps


@pytest.mark.parametrize(
    ("changes", "bound"),
    [
        ({"lr_schedule": "constant"}, None),
        ({"lr_schedule": "cosine"}, "train.lr_schedule cosine"),
        ({"lr_schedule": "wsd"}, "train.lr_schedule wsd"),
        (
            {"lr_schedule": "constant", "dropout_schedule": "linear_up_from_half"},
            "train.dropout_schedule linear_up_from_half",
        ),
        (
            {
                "lr_schedule": "constant",
                "dropout_schedule": "early",
                "dropout_switch_step": 1,
            },
            None,
        ),
    ],
)
def test_what_follows_the_number_of_steps(changes: dict[str, object], bound: str | None) -> None:
    train = params_with(train=changes).train
    assert bound_to_steps(train.lr_schedule, train.dropout_schedule) == bound
