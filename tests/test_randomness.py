from concurrent.futures import ThreadPoolExecutor

import torch

from dropgpt.randomness import dropout_streams, generator, seed_dropout, torch_generator


def test_each_seed_purpose_and_step_has_a_stream_of_its_own() -> None:
    keys = [
        (1, "dropout", 0),
        (2, "dropout", 0),
        (1, "data order", 0),
        (1, "dropout", 1),
        (11, "dropout", 1),
        (1, "dropout", 11),
    ]
    assert len({generator(*key).random() for key in keys}) == len(keys)  # type: ignore[arg-type]
    for key in keys:
        assert generator(*key).random() == generator(*key).random()  # type: ignore[arg-type]
        a, b = (torch_generator(*key) for _ in range(2))  # type: ignore[arg-type]
        assert torch.rand(3, generator=a).equal(torch.rand(3, generator=b))


def drawn(windows: range, step: int = 3) -> list[int]:
    """The first number for each window."""
    seed_dropout(1, "dropout", step, windows, torch.device("cpu"))
    return [int(stream.random_raw()) for stream in dropout_streams()]


def test_the_masks_of_a_window_are_the_same_whatever_is_read_with_it() -> None:
    assert drawn(range(0, 4)) == drawn(range(0, 1)) + drawn(range(1, 4))
    assert len({*drawn(range(9)), *drawn(range(9), step=4)}) == 18


def test_another_thread_has_streams_of_its_own() -> None:
    expected = drawn(range(2))
    seed_dropout(1, "dropout", 3, range(2), torch.device("cpu"))
    with ThreadPoolExecutor(1) as other:
        other.submit(drawn, range(5)).result()
    assert [int(stream.random_raw()) for stream in dropout_streams()] == expected


def test_elsewhere_the_masks_forget_what_was_drawn_before() -> None:
    found = []
    for before, windows in ((0, range(2)), (5, range(2)), (0, range(2, 4))):
        torch.rand(before)
        seed_dropout(1, "dropout", 3, windows, torch.device("meta"))
        found.append(torch.rand(4))
    assert found[0].equal(found[1])
    assert not found[0].equal(found[2])
