import torch

from dropgpt.randomness import generator, seed_torch, torch_generator


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


def test_the_masks_forget_what_was_drawn_before() -> None:
    drawn = []
    for before in (0, 5):
        torch.rand(before)
        seed_torch(1, "dropout", 3)
        drawn.append(torch.rand(4))
    assert drawn[0].equal(drawn[1])
