import json
import math
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import message
from dropgpt.__main__ import main
from dropgpt.commands import compare
from dropgpt.comparison import experiments, unpaired
from dropgpt.comparison.comparable import check_comparable, comparable
from dropgpt.comparison.experiments import Run
from dropgpt.comparison.statistics import (
    bits_per_byte,
    by_document,
    difference,
    differences,
    distinct,
    groups,
    paired,
    table,
    varied,
)
from dropgpt.comparison.tables import rounded
from dropgpt.errors import UserError

TOKENS = np.arange(20, 60)
BYTES = 4 * TOKENS
PARAMS = {
    "model.dropout": 0.1,
    "train.seed": 1,
    "train.weight_decay": 0.1,
    "evaluate.stride": 128,
    "evaluate.across_documents": False,
    "evaluate.batch_size": 32,
    "code.train": "aaaaaaaa",
    "environment": "11111111",
}


def a_run(bits: Any, name: str = "run", sha256: str = "same", **changes: Any) -> Run:
    """With a loss of `bits` a byte, one for all documents or one each."""
    names = [f"document {n}" for n in TOKENS]
    documents = pd.DataFrame({"id": names, "tokens": TOKENS, "bytes": BYTES, "source": names})
    made_by = PARAMS | {key.replace("_", ".", 1): value for key, value in changes.items()}
    return Run(name, made_by, documents.assign(nats=bits * BYTES * math.log(2), sha256=sha256))


def test_the_documents_of_one_article_are_no_independent_draws() -> None:
    ours, theirs = a_run(np.repeat([1.4, 1.5, 1.6, 1.3], 10)), a_run(1.5)
    apart = difference([(ours, theirs)])
    of_articles = np.repeat(list("abcd"), 10)
    parts = [
        replace(run, documents=run.documents.assign(source=of_articles)) for run in (ours, theirs)
    ]
    found = difference([(parts[0], parts[1])])
    assert found.mean == pytest.approx(apart.mean)
    assert found.chance.documents < 4 < apart.chance.documents
    assert found.high - found.low > 2 * (apart.high - apart.low)
    # One of the two, as a result file, may not know of articles.
    assert difference([(parts[0], theirs)]) == difference([(ours, parts[1])]) == found


def test_a_loss_that_is_no_number_is_not_left_out() -> None:
    """It would count as no loss at all."""
    assert bits_per_byte(a_run(1.5)) == pytest.approx(1.5)
    assert math.isnan(bits_per_byte(a_run(np.where(TOKENS > 50, np.nan, 1.5))))


def simulated(
    random: np.random.Generator, effect: float, of_seed: float, of_document: float
) -> Any:
    """Three seeds, with and without the effect, which is larger on one document than on another."""
    documents = effect + random.normal(0, of_document, len(TOKENS))
    pairs = []
    for seed in (1, 2, 3):
        with_it, without = random.normal(0, of_seed, 2)
        noise = random.normal(0, 0.02, (2, len(TOKENS)))
        ours = a_run(3 + documents + with_it + noise[0], train_seed=seed)
        pairs.append((ours, a_run(3 + without + noise[1], train_seed=seed)))
    return pairs


@pytest.mark.parametrize(
    ("of_seed", "of_document"), [(0.05, 0.0), (0.02, 0.1), (0.0, 0.2)], ids=str
)
def test_what_is_not_there_is_called_so_as_often_as_the_interval_promises(
    of_seed: float, of_document: float
) -> None:
    random = np.random.default_rng(0)
    found = [difference(simulated(random, 0.0, of_seed, of_document)) for _ in range(400)]
    unsure = sum(one.verdict == "cannot tell" for one in found)
    assert 366 <= unsure <= 396  # of 400; 380 expected
    assert sum(one.verdict == "better" for one in found) > 0
    assert sum(one.verdict == "worse" for one in found) > 0


@pytest.mark.parametrize(("effect", "verdict"), [(0.3, "worse"), (-0.3, "better")])
def test_a_planted_difference_is_found_and_its_size_is_in_the_interval(
    effect: float, verdict: str
) -> None:
    random = np.random.default_rng(1)
    found = [difference(simulated(random, effect, 0.02, 0.1)) for _ in range(200)]
    assert sum(one.verdict == verdict for one in found) > 190
    assert 180 <= sum(one.low <= effect <= one.high for one in found) <= 199


def test_one_seed_says_nothing_however_large_the_difference() -> None:
    found = difference([(a_run(2), a_run(3))])
    assert found.mean == pytest.approx(-1)
    assert found.verdict == "cannot tell: one seed"


def test_one_seed_and_one_document_have_no_interval() -> None:
    def one(run: Run) -> dict[str, Run]:
        return {"": replace(run, documents=run.documents[:1])}

    found = table({"a": one(a_run(3000)), "b": one(a_run(2))}, "a")
    assert found.difference[1] == pytest.approx(-2998)
    assert found.low.isna().all()
    told = rounded(found, "run")
    assert told["95% interval"].tolist() == ["", "unknown, of one document"]
    assert told.perplexity[0] == "beyond floating point"


def test_documents_without_text_make_no_interval() -> None:
    """There an end may be predicted, and nothing else."""
    pair = (a_run(2), a_run(3))
    for run in pair:
        run.documents.loc[1:, "bytes"] = 0
        run.documents.loc[2:, ["tokens", "nats"]] = 0
    assert math.isnan(difference([pair]).low)
    assert not math.isnan(difference([pair, (a_run(2, train_seed=9), a_run(4, train_seed=9))]).low)


def test_equal_runs_differ_by_nothing() -> None:
    found = difference([(a_run(loss, train_seed=loss),) * 2 for loss in (2, 3)])
    assert (found.mean, found.low, found.high, found.verdict) == (0, 0, 0, "cannot tell")


def test_groups_pair_their_runs_by_all_else_that_matters() -> None:
    runs = [
        a_run(rate + seed, model_dropout=rate, train_seed=seed, evaluate_batch_size=seed)
        for rate in (0.2, 0.1, 0.0)
        for seed in (1, 2)
    ]
    runs += [a_run(9, model_dropout=0.1, train_seed=3), a_run(9, model_dropout=0.4, train_seed=7)]
    assert varied(runs) == ["model.dropout"]
    found = table(groups(runs, ["model.dropout"]), "0.0").set_index("group")
    assert list(found.index) == ["0.0", "0.1", "0.2", "0.4"]
    assert list(found.runs) == [2, 3, 2, 1]
    # The seed that the baseline lacks counts for the mean and not for the difference.
    assert found.bits_per_byte["0.1"] == pytest.approx((1.1 + 2.1 + 9) / 3)
    assert found.difference["0.1"] == pytest.approx(0.1)
    assert found.spread["0.2"] == pytest.approx(0.5**0.5)
    assert found.perplexity["0.2"] == pytest.approx(2 ** (4 * 1.7))  # four bytes a token
    assert found.verdict["0.0"] == "baseline"
    assert found.verdict["0.4"].startswith("cannot tell: no run of the baseline")


def test_models_of_the_hub_pair_though_each_has_a_name_and_a_commit() -> None:
    runs = [
        replace(run, made_by=run.made_by | dict.fromkeys(("model", "revision"), run.name))
        for rate in (0.0, 0.1)
        for run in [
            a_run(rate + n, f"{rate} {n}", model_dropout=rate, train_seed=n) for n in (1, 2)
        ]
    ]
    assert varied(runs) == ["model.dropout", "model", "revision"]
    found = differences(groups(runs, ["model.dropout"]), "0.0")["0.1"]
    assert found is not None
    assert found.seeds == 2


def test_ways_to_cut_the_same_text_pair() -> None:
    """Though the tokens are other ones."""
    runs = [
        a_run(size / 100 + n, tokenize_vocabulary_size=size, train_seed=n, tokens=f"of {size}")
        for size in (300, 500)
        for n in (1, 2)
    ]
    found = differences(groups(runs, ["tokenize.vocabulary_size"]), "300")["500"]
    assert found
    assert (found.seeds, found.mean) == (2, pytest.approx(2))
    assert not paired(*groups(runs, ["tokens"]).values())


def test_other_texts_do_not_pair_however_they_are_cut() -> None:
    """What they are follows from no parameter: files may have been edited between two runs."""
    runs = [
        replace(
            a_run(size / 100, tokenize_vocabulary_size=size, train_seed=n, tokens=f"{size} {of}"),
            texts=of,
        )
        for size, n, of in [(300, 1, "old"), (300, 2, "old"), (500, 1, "old"), (500, 2, "new")]
    ]
    by = ["tokenize.vocabulary_size"]
    found = groups(runs, by)
    (pair,) = paired(found["500"], found["300"])
    assert [run.texts for run in pair] == ["old", "old"]
    (told,) = unpaired.lines(groups(runs[1::2], by), "300", by)
    assert told == "500 and 300 are nowhere alike in all else: data/documents.parquet"


def test_equal_results_count_once_whatever_code_and_machine_left_them_so() -> None:
    runs = [a_run(2, "a"), a_run(2, "b"), a_run(2, "c", code_train="bbbbbbbb")]
    found, lines = distinct([*runs, a_run(2, "d", environment="2")])
    assert [run.name for run in found] == ["a"]
    assert [line.split()[0] for line in lines] == ["b", "c", "d"]
    assert len(distinct([a_run(2), a_run(2, train_seed=2)])[0]) == 2
    assert len(distinct([a_run(2), a_run(3, code_train="bbbbbbbb")])[0]) == 2


def test_in_which_order_the_keys_stand_does_not_matter() -> None:
    """Files of several trainers may have another each."""
    runs = [a_run(3 + p, f"{p}", model_dropout=p, train_seed=1) for p in (0.0, 0.1)]
    turned = [replace(run, made_by=dict(reversed(run.made_by.items()))) for run in runs]
    assert len(distinct([runs[0], turned[0]])[0]) == 1
    found = groups([runs[0], turned[1]], ["model.dropout"])
    assert differences(found, "0.0")["0.1"]


@pytest.mark.parametrize(
    ("ours", "theirs", "labels"),
    [
        (
            {"k.1": "a, b", "k.2": "c"},
            {"k.1": "a", "k.2": "b, c"},
            ["k.1='a', k.2='b, c'", "k.1='a, b', k.2='c'"],
        ),
        ({"k.1": True}, {"k.1": "True"}, ["k.1=True", "k.1='True'"]),
        ({"k.1": None}, {}, ["k.1=None", "k.1=absent"]),
        ({"k.1": 1}, {"k.1": 2}, ["1", "2"]),
    ],
)
def test_values_that_read_alike_are_not_one_group(
    ours: dict[str, Any], theirs: dict[str, Any], labels: list[str]
) -> None:
    runs = [replace(a_run(3), made_by=PARAMS | ours), replace(a_run(4), made_by=PARAMS | theirs)]
    assert varied(runs) == [*ours]
    found = groups(runs, [*ours])
    assert list(found) == labels
    assert [len(group) for group in found.values()] == [1, 1]
    assert all(differences(found, labels[0]).values())


def test_equal_parameters_with_other_code_are_two_groups() -> None:
    runs = [a_run(2, train_seed=1), a_run(2, train_seed=2)]
    runs += [a_run(3, train_seed=seed, code_train="bbbbbbbb") for seed in (1, 2)]
    assert varied(runs) == ["code.train"]
    for by in ([], ["code.train"]):
        assert list(groups(runs, by)) == ["aaaaaaaa", "bbbbbbbb"]
    assert list(groups(runs, ["model.dropout"])) == ["0.1, aaaaaaaa", "0.1, bbbbbbbb"]


def test_pairs_of_one_seed_count_as_one_seed() -> None:
    runs = [
        a_run(depth - rate, model_dropout=rate, model_n_layer=depth)
        for rate in (0.0, 0.1)
        for depth in (2, 3, 4)
    ]
    found = table(groups(runs, ["model.dropout"]), "0.0").set_index("group")
    assert found.verdict["0.1"] == "cannot tell: one seed"
    assert (found.runs["0.1"], found.seeds["0.1"]) == (3, 1)
    twice = [(a_run(2, train_seed=seed), a_run(1, train_seed=seed)) for seed in (1, 2, 2)]
    assert difference(twice).seeds == 2


def test_two_machines_pair_with_themselves() -> None:
    runs = [
        a_run(rate + number, model_dropout=rate, environment=str(number))
        for rate in (0.0, 0.1)
        for number in (1, 5)
    ]
    found = table(groups(runs, ["model.dropout"]), "0.0").set_index("group")
    assert found.difference["0.1"] == pytest.approx(0.1)
    assert found.seeds["0.1"] == 1


def test_runs_that_are_alike_in_all_but_their_loss_are_refused() -> None:
    with pytest.raises(UserError, match="a and b are alike in parameters, code and environment"):
        groups([a_run(2, "a"), a_run(3, "b")], ["model.dropout"])


def test_what_few_measured_otherwise_is_left_out_of_all() -> None:
    runs = [a_run(2, "a"), a_run(2, "b", evaluate_stride=64), a_run(2, "c"), a_run(2, "d", "other")]
    found, lines = comparable(runs)
    assert [run.name for run in found] == ["a", "c"]
    assert "evaluate.stride 128, b with 64: b is left out" in lines[0]
    assert "other held-out texts" in lines[1]


def test_a_document_without_tokens_has_no_loss_to_compare() -> None:
    ours, theirs = (a_run(loss) for loss in (2, 3))
    for run in (ours, theirs):
        run.documents.loc[5, ["tokens", "bytes", "nats"]] = 0
    assert len(by_document([(ours, theirs)])) == 39
    assert difference([(ours, theirs)]).mean == pytest.approx(-1)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"sha256": "other"}, "other held-out texts, 6,320 bytes in 40 documents and 6,320 in 40"),
        ({"evaluate_stride": 64}, "run was evaluated with evaluate.stride 128, b with 64"),
        ({"evaluate_across_documents": True}, "evaluate.across_documents False, b with True"),
    ],
)
def test_what_was_measured_otherwise_is_not_compared(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError) as error:
        check_comparable([a_run(2), a_run(2, name="b", **changes)])
    assert why in message(error)


def test_documents_are_told_apart() -> None:
    found = by_document([(a_run(np.linspace(4, 2, 40), "tokens"), a_run(3, "id"))])
    assert found.id[0] == "document 59"
    assert found.difference[0] == pytest.approx(-1)
    assert found.bits_per_byte[39] == pytest.approx(4)
    assert found.baseline[39] == pytest.approx(3)


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """`dropgpt compare …` among six experiments, and what it prints."""
    runs = {
        f"rate-{n}": a_run(3 + rate + seed / 1000, f"rate-{n}", model_dropout=rate, train_seed=seed)
        for n, (rate, seed) in enumerate((r, s) for r in (0.0, 0.1, 0.4) for s in (1, 2))
    }
    monkeypatch.setattr(compare, "since_head", lambda: {name: name for name in runs})
    monkeypatch.setattr(experiments, "read", lambda name, commit="": runs[name])

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["dropgpt", "compare", *arguments])
        main()
        return capsys.readouterr().out

    return run


def test_the_table_in_each_format(command: Callable[..., str]) -> None:
    text = command()
    assert [line.split()[0] for line in text.splitlines()[:2]] == ["model.", "dropout"]
    assert "+0.1000" in text
    assert text == command("--by", "model.dropout")
    assert command("--md").splitlines()[1].startswith("| --- | ---")
    assert [line.split(",")[0] for line in command("--csv").splitlines()[1:]] == [
        "0.0",
        "0.1",
        "0.4",
    ]
    found = json.loads(command("--json", "--baseline", "0.4"))
    assert found["by"] == "model.dropout"
    assert found["groups"][0]["difference"] == pytest.approx(-0.4)
    assert found["groups"][2]["verdict"] == "baseline"
    assert found["groups"][2]["difference"] is None


def test_groups_of_which_no_runs_are_alike_say_in_what_they_differ(
    command: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the least that any two of them do."""
    runs = {
        name: a_run(
            3, name, **{"model_dropout": 0.1, "train_seed": 2, "model_n_layer": 2} | changes
        )
        for name, changes in {
            "a": {"model_dropout": 0.0, "train_seed": 1},
            "b": {"train_seed": 3},
            "c": {"model_n_layer": 3},
        }.items()
    }
    monkeypatch.setattr(compare, "since_head", lambda: {name: name for name in runs})
    monkeypatch.setattr(experiments, "read", lambda name, commit="": runs[name])
    (note,) = json.loads(command("--by", "model.dropout", "--json"))["notes"]
    assert note == "0.1 and 0.0 are nowhere alike in all else: train.seed"


def test_a_single_experiment_is_named_with_what_to_set_it_beside(
    command: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "since_head", lambda: {"mine": "mine"})
    monkeypatch.setattr(experiments, "read", lambda name, commit="": a_run(3, name))
    with pytest.raises(
        SystemExit, match=r"two runs or more: name them \(`dropgpt compare HEAD mine`"
    ):
        command()


def test_two_runs_document_by_document(command: Callable[..., str]) -> None:
    assert (
        "Of 40 documents 0 are better in rate-2 than in rate-0, the baseline, and 40 worse"
        in " ".join(command("rate-0", "rate-2").split())
    )
    found = json.loads(command("rate-0", "rate-2", "--json"))
    assert [group["group"] for group in found["groups"]] == ["rate-0", "rate-2"]
    assert len(found["documents"]) == 40
    assert found["documents"][0]["bits_per_byte"] == pytest.approx(3.101)


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_the_same_table_is_drawn_in_the_same_bytes(
    command: Callable[..., str], tmp_path: Path, suffix: str
) -> None:
    files = [tmp_path / f"{n}.{suffix}" for n in range(2)]
    for file in files:
        command("--plot", str(file))
    assert files[0].read_bytes() == files[1].read_bytes() != b""


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--by", "model.dropuot"], "--by model.dropuot: no result was made by such a parameter"),
        (["--baseline", "0.3"], "--baseline 0.3 is none of 0.0, 0.1, 0.4"),
        (["--plot", "nodir/differences.svg"], "there is no folder nodir to draw in"),
        (["rate-0", "rate-0"], "rate-0 is named twice"),
        (["--plot", "differences.pdf"], "plots are drawn as .svg and .png"),
        (["rate-1"], "it takes two runs or more"),
        (["--tries", "-1"], "--tries -1 is below 0"),
        (["--margin", "0"], "--margin 0.0 is no size"),
    ],
)
def test_mistakes_are_told_in_a_line(
    command: Callable[..., str], arguments: list[str], why: str
) -> None:
    with pytest.raises(SystemExit, match=f"error: .*{why}"):
        command(*arguments)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["rate-0", "rate-2"], 3),  # one seed is never a verdict
        ([], 2),  # beside which group? the lowest value is not what was there before
        (["--by", "model.dropout"], 2),
        (["--by", "model.dropout", "--baseline", "0.0"], 1),
        (["--by", "model.dropout", "--baseline", "0"], 1),  # the same number
        (["--baseline", "0.4"], 0),
        (["--by", "model.dropout", "--baseline", "0.1"], 1),  # one is better, one worse
        (["--by", "model.dropuot"], 2),
        (["rate-0", "no-such"], 2),  # whatever goes wrong
    ],
)
def test_a_program_can_act_on_the_exit_status(
    command: Callable[..., str], arguments: list[str], status: int
) -> None:
    found = 0
    try:
        command(*arguments, "--require", "better")
    except SystemExit as left:
        found = left.code
    assert found == status


def test_no_worse_is_by_a_margin(
    command: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    no_worse = "--baseline", "0.0", "--require", "no-worse"
    command(*no_worse, "--margin", "0.41")
    with pytest.raises(SystemExit, match="1"):
        command(*no_worse, "--margin", "0.05")
    with pytest.raises(SystemExit, match="2"):
        command(*no_worse)
    assert "no-worse takes a --margin" in capsys.readouterr().err


def test_programs_are_told_all_that_the_verdict_rests_on(command: Callable[..., str]) -> None:
    worse = "--baseline", "0.0", "--require", "worse", "--margin", "0.2", "--tries", "2"
    found = json.loads(command("--json", *worse))
    assert found["comparisons"] == 4  # two groups beside the baseline, and two tries before
    assert found["confidence_of_each"] == pytest.approx(1 - 0.05 / 4)
    assert found["require"] == {"claim": "worse", "margin": 0.2, "answer": "holds"}
    assert found["groups"][0]["more_seeds"] is None
    assert found["groups"][1]["more_seeds"] == 0
    assert found["needed"] == []


def test_what_cannot_be_told_yet_says_what_it_takes(
    command: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = command("rate-0", "rate-2")
    assert "rate-2: two seeds at least are needed before anything is said." in alone
    runs = {
        f"{rate} {seed}": a_run(
            3 + rate * (seed - 1.6), f"{rate} {seed}", model_dropout=rate, train_seed=seed
        )
        for rate in (0.0, 0.1)
        for seed in (1, 2)
    }
    monkeypatch.setattr(compare, "since_head", lambda: {name: name for name in runs})
    monkeypatch.setattr(experiments, "read", lambda name, commit="": runs[name])
    text = command("--margin", "0.2")
    more, for_margin = re.findall(
        r"(\d+) more seeds? would show 0\.\d+ with 80% power", " ".join(text.split())
    )
    assert int(more) > 100 > int(for_margin)
    row = json.loads(command("--json", "--margin", "0.2"))["groups"][1]
    assert (row["more_seeds"], row["more_seeds_for_margin"]) == (int(more), int(for_margin))
    assert max(map(len, text.splitlines())) <= 80
