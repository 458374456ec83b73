"""A run of the laboratory: its texts, its trunk and branches, and what a kill leaves."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import params_with
from dropgpt.errors import UserError
from dropgpt.machine.files import write_json
from dropgpt.tokens.tensor import TokenTensor
from dropgpt.training.checkpoint import described, of_training
from dropgpt.training.checkpoint_files import stale
from dropgpt.training.loop import train
from laboratory import run
from laboratory.plan import RunParams, Size
from laboratory.texts import Texts

READINGS = [1, 2, 5]


def corpus(documents: int = 40) -> TokenTensor:
    """Each document has tokens of its own; two of each article, the last eight kept apart."""
    lengths = np.arange(documents) % 7 + 20
    ids = np.repeat(np.arange(documents), lengths).astype(np.uint16)
    table = pd.DataFrame(
        {
            "id": [f"{number // 2}#{number % 2}" for number in range(documents)],
            "source": [str(number // 2) for number in range(documents)],
            "tokens": lengths,
            "bytes": lengths,
            "held_out": np.arange(documents) >= documents - 8,
        }
    )
    return TokenTensor(ids, table, 300)


def own(members: int | None = None, **train_params: Any) -> RunParams:
    params = params_with(
        train={
            "tokens": 321,
            "steps": 5,
            "batch_size": 2,
            "lr_schedule": "wsd",
            "validation_interval": 10,
            "optimizer": "adamw",
            "dropout_schedule": "constant",
            "precision": "float32",
        }
        | train_params
    )
    sections = params.model_dump()
    return RunParams.model_validate(
        {name: sections[name] for name in ("tokenize", "model", "train", "evaluate")}
        | {"members": members, "readings": READINGS, "monte_carlo": [] if members else [2]}
    )


class Plan:
    def __init__(self, params: RunParams) -> None:
        self.of_run = params

    def params(self, variant: str, seed: int) -> RunParams:
        return self.of_run


@pytest.fixture
def size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Size:
    monkeypatch.chdir(tmp_path)
    size = Size("tiny")
    size.folder.mkdir(parents=True)
    write_json(size.setting, {})
    monkeypatch.setattr(run, "texts", lambda size: Texts(corpus()))
    monkeypatch.setattr(Size, "load", lambda self: Plan(own()))
    return size


def made(size: Size, name: str) -> dict[str, Any]:
    output = Path(name)
    run.make(params_with(), size, "p0", 1, output)
    found: dict[str, Any] = json.loads(output.read_text())
    return found


def test_a_text_is_drawn_by_its_seed_in_whole_articles() -> None:
    texts = Texts(corpus())
    first, again, other = (texts.drawn(seed, 321) for seed in (1, 1, 2))
    assert np.array_equal(first.tokens, again.tokens)
    assert not np.array_equal(first.tokens[:321], other.tokens[:321])
    assert 321 <= first.n_train < 321 + 26
    table = first.documents[~first.documents.held_out]
    assert (table.source != table.source.shift()).sum() == table.source.nunique()
    assert [*np.unique(first.train)] == sorted(
        int(number) * 2 + int(part) for number, part in table.id.str.split("#")
    )
    with pytest.raises(UserError, match=r"train.tokens is 9999, and there are 7\d\d to draw"):
        texts.drawn(1, 9999)


def test_what_is_chosen_on_and_what_is_tested_on_are_apart_and_never_read() -> None:
    texts = Texts(corpus())
    parts = [set(part.documents.id) for part in (texts.development, texts.test)]
    drawn = texts.drawn(1, 700)
    read = set(drawn.documents.id[~drawn.documents.held_out])
    assert [len(part) for part in parts] == [4, 4]
    assert not parts[0] & parts[1]
    assert not read & (parts[0] | parts[1])
    assert set(drawn.documents.id[drawn.documents.held_out]) == parts[0]
    assert [*np.unique(texts.test.tokens)] == [36, 37, 38, 39]


def test_a_branch_has_the_bits_of_a_whole_training(size: Size) -> None:
    found = made(size, "run.json")
    params = own()
    texts = Texts(corpus())
    assert [*found["lengths"]] == ["1", "2", "5"]
    for readings in READINGS:
        made_with = {"train": params.training(readings).model_dump()}
        inputs = {"params": made_with, "environment": {"threads": 1}}
        with of_training({"train": inputs}, 60) as saved:
            whole = train(
                params.training(readings),
                params.model,
                texts.drawn(1, 321),
                device=torch.device("cpu"),
                dtype=torch.float32,
                log_interval=10,
                checkpoint=saved,
            )
        expected = run.found(whole, params, texts.development, texts.test)
        assert found["lengths"][str(readings)] == json.loads(json.dumps(expected))
    assert len(whole.steps) == 25


@pytest.mark.parametrize("after", range(12))
def test_a_run_that_is_stopped_anywhere_ends_in_the_same_bytes(
    size: Size, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """After each of the six trainings of two models, trunks and branches."""
    monkeypatch.setattr(Size, "load", lambda self: Plan(own(members=2)))
    expected = made(size, "whole.json")
    left = after

    def stopped(*arguments: Any, **named: Any) -> Any:
        nonlocal left
        result = train(*arguments, **named)
        if not left:
            raise KeyboardInterrupt
        left -= 1
        return result

    monkeypatch.setattr(run, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        made(size, "run.json")
    monkeypatch.setattr(run, "train", train)
    assert made(size, "run.json") == expected
    assert not [*Path("checkpoints").glob("*.json"), *Path("checkpoints").glob("*.safetensors")]


@pytest.mark.parametrize("edited", ["plan", "setting", "code"])
def test_what_was_edited_meanwhile_fails_it_and_what_it_has_found_is_kept(
    size: Size, monkeypatch: pytest.MonkeyPatch, edited: str
) -> None:
    expected = made(size, "whole.json")
    rates = [0.1]
    monkeypatch.setattr(Size, "load", lambda self: Plan(own(learning_rate=rates[-1])))
    trained: list[int] = []

    def noted(training: Any, *arguments: Any, **named: Any) -> Any:
        trained.append(training.steps)
        if edited == "plan":
            rates.append(0.2)
        elif edited == "setting":
            write_json(size.setting, {"edited": 1})
        else:
            Path("laboratory/run.py").write_text("edited = 1\n")
        return train(training, *arguments, **named)

    monkeypatch.setattr(run, "train", noted)
    name = {"plan": "tiny/plan.yaml: variants.p0", "setting": "tiny/setting.json", "code": "run.py"}
    told = (
        f"^laboratory: laboratory/{name[edited]} changed while it ran.*"
        ": `python -m laboratory tiny`"
    )
    with pytest.raises(UserError, match=told):
        made(size, "run.json")
    assert not Path("run.json").exists()
    assert len(trained) == 2 * len(READINGS)
    rates[:] = [0.1]
    write_json(size.setting, {})
    assert made(size, "run.json").keys() == expected.keys()
    assert len(trained) == 2 * len(READINGS)  # it was all there


def test_a_list_of_checkpoints_says_how_far_it_is(
    size: Size, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(training: Any, *arguments: Any, **named: Any) -> Any:
        result = train(training, *arguments, **named)
        if training.steps == 10:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(run, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        made(size, "run.json")
    listed = " ".join(described(one, params_with()) for one in stale())
    assert sorted(re.findall(r"step (\d+) of (\d+)", listed)) == [("10", "10"), ("8", "20")]


def test_models_of_several_seeds_read_the_text_of_the_run(
    size: Size, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model of the run's own seed is the one that a run without `members` has."""
    alone = made(size, "alone.json")["lengths"]
    read = []

    def noted(training: Any, model: Any, text: TokenTensor, **named: Any) -> Any:
        read.append((training.seed, text.tokens.tobytes()))
        return train(training, model, text, **named)

    monkeypatch.setattr(run, "train", noted)
    for members in (1, 2):
        monkeypatch.setattr(Size, "load", lambda self, of=members: Plan(own(members=of)))
        found = made(size, f"{members}.json")["lengths"]
        for readings, one in alone.items():
            kept = {"training", "development", "test"}
            same = {key: found[readings][key] for key in kept} == {key: one[key] for key in kept}
            assert same == (members == 1)
            singles = found[readings]["ensembles"]["1"]
            assert singles["test"] == pytest.approx(found[readings]["test"], abs=2e-3)
            development = found[readings]["development"]
            assert singles["development"] == pytest.approx(development, abs=2e-6)
            assert [*found[readings]["ensembles"]] == [str(n) for n in range(1, members + 1)]
    seeds, texts = zip(*read, strict=True)
    assert set(seeds) == {1, 1001}  # so that no other text has a model of that seed
    assert len(set(texts)) == 1


@pytest.mark.parametrize("schedule", ["early", "linear_up"])
def test_what_follows_the_length_has_no_trunk(
    size: Size, monkeypatch: pytest.MonkeyPatch, schedule: str
) -> None:
    params = own(dropout_schedule=schedule, dropout_switch_step=1)
    monkeypatch.setattr(Size, "load", lambda self: Plan(params))
    trained = []

    def noted(training: Any, *arguments: Any, **named: Any) -> Any:
        trained.append((training.steps, training.dropout_switch_step))
        return train(training, *arguments, **named)

    monkeypatch.setattr(run, "train", noted)
    made(size, "run.json")
    half = schedule == "early"
    assert trained == [(5, 2 * half), (10, 5 * half), (25, 12 * half)]


def test_a_trunk_is_the_part_of_a_training_before_its_decay() -> None:
    assert own().trunk(5).steps == 20
    assert own().trunk(5).lr_schedule == "constant"
    assert own().training(5).lr_schedule == "wsd"
