"""Result files, of whatever program, and `dropgpt compare` of them, where there is no project."""

import errno
import hashlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clone import DROPGPT
from conftest import ROOT, message
from dropgpt.arguments import parsed
from dropgpt.commands import compare
from dropgpt.comparison import result_file
from dropgpt.comparison.comparable import check_comparable
from dropgpt.errors import UserError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def result(nats: float = 100.0, seed: int | None = None, **changes: Any) -> dict[str, Any]:
    """Of 30 documents, whose losses are about `nats` and vary with the seed."""
    random = np.random.default_rng(seed or 0)
    texts = [f"text {number}" for number in range(30)]
    return {
        "format": "dropgpt result 1",
        "made_by": {} if seed is None else {"train.seed": seed},
        "measured": {
            "stride": 64,
            "context": 128,
            "across_documents": False,
            "end_of_text": True,
            "tokenizer": "GPT-2",
            "dtype": "float32",
        },
        "documents": [
            {
                "id": text,
                "sha256": hashlib.sha256(text.encode()).hexdigest(),
                "bytes": 200,
                "tokens": 50,
                "nats": nats + random.normal(),
            }
            for text in texts
        ],
    } | changes


def write(name: str, content: Any) -> str:
    Path(name).write_text(json.dumps(content))
    return name


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> Any:
    """What `dropgpt compare ... --json` prints."""
    values = parsed(["compare", *arguments, "--json"])
    values.pop("command")
    compare.run(**values)
    return json.loads(capsys.readouterr().out)


def test_the_schema_on_the_page_is_that_of_the_code() -> None:
    said = (ROOT / result_file.SCHEMA).read_text()
    assert said == result_file.schema(), "run `python -m dropgpt.comparison.result_file`"


def test_the_file_on_the_page_is_one() -> None:
    (block,) = re.findall(
        r"^```json\n(.*?)^```", (ROOT / result_file.PAGE).read_text(), re.M | re.S
    )
    Path("a.json").write_text(block)
    assert result_file.read("a.json").documents.nats.tolist() == [163.25]


def test_what_is_written_is_what_is_read() -> None:
    run = result_file.read(write("a.json", result(seed=3)))
    measured = result_file.Measured.model_validate(result()["measured"])
    written = result_file.of({"train.seed": 3}, measured, run.documents)
    result_file.write(Path("b.json"), written)
    again = result_file.read("b.json")
    assert again.documents.equals(run.documents)
    assert again.made_by == run.made_by
    assert set(json.loads(Path("b.json").read_text())) == set(result())


def test_a_byte_order_mark_is_no_part_of_the_file() -> None:
    Path("a.json").write_text(json.dumps(result()), encoding="utf-8-sig")
    assert len(result_file.read("a.json").documents) == 30


def test_infinity_may_be_a_parameter() -> None:
    write("a.json", result(made_by={"grad_clip": float("inf")}))
    assert "Infinity" in Path("a.json").read_text()
    assert result_file.read("a.json").made_by["grad_clip"] == "Infinity"


def test_texts_in_another_order_are_told_as_that() -> None:
    whole = result()
    runs = [
        result_file.read(write("a.json", whole)),
        result_file.read(write("b.json", whole | {"documents": whole["documents"][::-1]})),
    ]
    with pytest.raises(
        UserError, match=r"a\.json and b\.json have the same texts in another order"
    ):
        check_comparable(runs)


def test_of_one_document_it_is_said_what_the_interval_knows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for seed in (1, 2, 3):
        for name, nats in (("a", 100), ("b", 120)):
            one = result(nats, seed)
            write(f"{name}{seed}.json", one | {"documents": one["documents"][:1]})
    found = run("--group", "a=a*.json", "--group", "b=b*.json", capsys=capsys)
    assert found["groups"][1]["verdict"] == "worse"
    assert found["notes"] == [
        "all of the text is one document: the intervals know of the chance of seeds alone"
    ]


def test_texts_with_one_id_are_told_apart() -> None:
    """As a file that is given twice to `dropgpt measure`, or rows of the hub that repeat an id."""
    measured = result_file.Measured.model_validate(result()["measured"])
    documents = result_file.read(write("a.json", result())).documents
    twice = documents.assign(id=["a", "b", "a"] * 10)
    result_file.write(Path("b.json"), result_file.of({}, measured, twice))
    ids = result_file.read("b.json").documents.id
    assert ids.is_unique
    assert ids[:4].tolist() == ["a", "b", "a (2)", "a (3)"]


def test_files_are_compared_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    found = run(write("a.json", result(100)), write("b.json", result(120)), capsys=capsys)
    assert [group["group"] for group in found["groups"]] == ["a.json", "b.json"]
    assert found["groups"][1]["difference"] == pytest.approx(20 / np.log(2) / 200)
    assert found["groups"][1]["verdict"] == "cannot tell: one seed"
    assert len(found["documents"]) == 30


def test_the_seeds_of_a_group_are_those_in_made_by(capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs").mkdir()
    for name, nats in (("plain", 100), ("worse", 120)):
        for seed in (1, 2, 10):
            write(f"runs/{name}-{seed}.json", result(nats, seed))
    single = write("single.json", result(90, 1))
    groups = ["--group", "plain=runs/plain-*", "--group", "worse=runs/worse-*.json"]
    found = run(*groups, capsys=capsys)
    assert [(g["group"], g["runs"], g["seeds"]) for g in found["groups"]] == [
        ("plain", 3, 3),
        ("worse", 3, 3),
    ]
    assert found["groups"][1]["verdict"] == "worse"
    named = sorted(map(str, Path("runs").iterdir()))
    found = run(single, *named, *groups, "--baseline", "plain", capsys=capsys)
    assert [group["group"] for group in found["groups"]] == ["single.json", "plain", "worse"]
    assert found["groups"][0]["verdict"] == "cannot tell: one seed"


@pytest.mark.parametrize(
    ("groups", "why"),
    [
        (["a"], "write it as 'name=glob'"),
        (["a=no/*"], "no file that ends in .json matches"),
        (["a=x*.json", "b=x-1.json"], "b=x-1.json and a overlap"),
        (["a=x-1.json", "b=./x-1.json"], "b=./x-1.json and a overlap"),
        (["a=x*.json"], "x-2.json says train.seed 1 in made_by: each file of the group needs"),
        (["a=y*.json"], "y-1.json says train.seed None in made_by"),
    ],
)
def test_groups_that_cannot_be(
    groups: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seed in (("x-1", 1), ("x-2", 1), ("y-1", None), ("y-2", None)):
        write(f"{name}.json", result(seed=seed))
    with pytest.raises(UserError) as error:
        run(*(word for group in groups for word in ("--group", group)), capsys=capsys)
    assert why in message(error)


def test_a_group_has_not_the_name_of_what_is_compared_beside_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, seed in (("x-1", 1), ("x-2", 2), ("y", 3)):
        write(f"{name}.json", result(seed=seed))
    with pytest.raises(
        UserError, match=r"--group y\.json: what is compared beside it has that name"
    ):
        run("y.json", "--group", "y.json=x-*.json", capsys=capsys)
    assert run("--group", "x-1.json=x-1.json", "--group", "y=y.json", capsys=capsys)["groups"]


def test_a_baseline_may_be_called_as_params_yaml_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    for name, made_by in (("a", {"p": True}), ("b", {"p": False}), ("c", {"p": None})):
        write(f"{name}.json", result(made_by=made_by))
    names = ("a.json", "b.json", "c.json", "--by", "p")
    for word, label in (("true", "True"), ("false", "False"), ("null", "None"), ("True", "True")):
        found = run(*names, "--baseline", word, capsys=capsys)["groups"]
        assert [one["group"] for one in found if one["verdict"] == "baseline"] == [label]


def test_numbers_and_checksums_may_be_spelled_as_others_do() -> None:
    """Of a table of pandas, and of PowerShell."""
    content = json.loads(json.dumps(result()))
    before = result_file.read(write("a.json", content))
    for document in content["documents"]:
        document |= {"tokens": float(document["tokens"]), "sha256": document["sha256"].upper()}
    pd.testing.assert_frame_equal(
        result_file.read(write("b.json", content)).documents, before.documents
    )


def test_names_of_groups_and_files_are_taken_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A file of just that name is meant before a glob, and a name may hold "="."""
    write("part[12].json", result(120, 1))
    write("part1.json", result(100, 1))
    groups = ["--group", "p=0.1=part1.json", "--group", "p=0.2=part[12].json"]
    found = run(*groups, capsys=capsys)
    assert [one["group"] for one in found["groups"]] == ["p=0.1", "p=0.2"]
    assert found["groups"][1]["difference"] == pytest.approx(20 / np.log(2) / 200)


def test_runs_without_a_counterpart_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    for name, seeds in (("a", (1, 2, 3)), ("b", (1, 2))):
        for seed in seeds:
            write(f"{name}-{seed}.json", result(100, seed))
    found = run("--group", "a=a-*.json", "--group", "b=b-*.json", capsys=capsys)
    (note,) = found["notes"]
    assert note.startswith(
        "a-3.json: no counterpart of b or a that is alike in all else (train.seed)"
    )


def test_the_baseline_of_two_files_may_be_the_second(capsys: pytest.CaptureFixture[str]) -> None:
    names = write("a.json", result(100)), write("b.json", result(120))
    found = run(*names, "--baseline", "b.json", capsys=capsys)
    expected = -20 / np.log(2) / 200
    assert found["groups"][0]["difference"] == pytest.approx(expected)
    assert [one["difference"] for one in found["documents"]] == pytest.approx([expected] * 30)
    write("b.json", result(100))  # the same result twice is one group
    assert "documents" not in run(*names, "--by", "evaluate.stride", capsys=capsys)


def test_options_may_stand_between_names(capsys: pytest.CaptureFixture[str]) -> None:
    names = write("a.json", result(100)), write("b.json", result(120))
    found = run(names[0], "--tries", "1", names[1], capsys=capsys)
    assert [one["group"] for one in found["groups"]] == [*names]
    with pytest.raises(SystemExit):
        parsed(["compare", "a.json", "--what", "b.json"])
    assert "unrecognized arguments: --what b.json" in capsys.readouterr().err


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">/dev/null 2>&-", "| true", "2>&1 | true"])
def test_a_verdict_is_one_though_nobody_hears_it(closed: str) -> None:
    for seed in (1, 2, 3):
        write(f"a-{seed}.json", result(120, seed))
        write(f"b-{seed}.json", result(100, seed))
    for group, status in (("better", 0), ("worse", 1)):
        command = f"{DROPGPT} compare --group 'a=a-*' --group 'b=b-*' --require {group} {closed}"
        done = subprocess.run(["bash", "-o", "pipefail", "-c", command])
        assert done.returncode == status


def test_a_full_disk_is_told_in_a_line() -> None:
    names = write("a.json", result(100)), write("b.json", result(120))
    command = f"{DROPGPT} compare {' '.join(names)} --json > /dev/full"
    done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (
        1,
        "error: standard output: No space left on device\n",
    )


def test_a_plot_of_a_name_with_signs_of_mathematics(capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        write(f"{name}.json", result(100, 1))
    groups = ["--group", "a$_$=a.json", "--group", "b=b.json"]
    run(*groups, "--plot", "x.svg", capsys=capsys)
    assert Path("x.svg").is_file()
    with pytest.raises(UserError, match=r"--plot full\.svg is a device or a pipe: name a file"):
        Path("full.svg").symlink_to("/dev/full")
        run(*groups, "--plot", "full.svg", capsys=capsys)
    Path("link.svg").symlink_to("x.svg")
    Path("x.svg").write_text("an older one")
    run(*groups, "--plot", "link.svg", capsys=capsys)
    assert Path("link.svg").is_symlink()
    assert "<svg" in Path("x.svg").read_text()


def test_a_plot_that_cannot_be_written_takes_neither_the_verdict_nor_the_last_one_with_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [write(f"{name}.json", result(100, 1)) for name in "ab"]
    run(*names, "--plot", "x.svg", capsys=capsys)
    before = Path("x.svg").read_bytes()

    def full(self: Any, file: Path, **_: Any) -> None:
        file.write_text("<svg>")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(UserError, match=r"x\.svg: cannot be written: No space left"):
        run(*names, "--plot", "x.svg", capsys=capsys)
    assert json.loads(capsys.readouterr().out)["groups"][1]["difference"] == 0
    assert Path("x.svg").read_bytes() == before


def test_a_plot_shows_no_difference_where_nothing_was_compared(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = []
    for name, seeds in {"a": (1, 2), "b": (3, 4), "c": (1, 2)}.items():
        for seed in seeds:
            write(f"{name}{seed}.json", result(100, seed))
        groups += ["--group", f"{name}={name}*.json"]
    ((differences, rows), _) = drawn(monkeypatch, *groups, capsys=capsys)
    assert ([*rows], differences.isna().tolist()) == ([0, 1, 2], [False, True, False])


def test_a_plot_has_room_for_long_names_and_no_interval_of_one_seed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = []
    for number, seeds in enumerate([(1, 2), (1,), (1, 2)]):
        for seed in seeds:
            write(f"{number}-{seed}.json", result(100, seed))
        groups += ["--group", f"{'long ' * 40}{number}={number}-*.json"]
    names: list[str] = []
    monkeypatch.setattr(Axes, "set_yticks", lambda self, rows, labels: names.extend(labels))
    _, options = drawn(monkeypatch, *groups, capsys=capsys)
    assert [*options["xerr"].isna().any()] == [True, True, False]  # the baseline has none
    assert [(len(name), name[-1]) for name in names] == [(45, "0"), (45, "1"), (45, "2")]


def drawn(monkeypatch: pytest.MonkeyPatch, *words: str, capsys: pytest.CaptureFixture[str]) -> Any:
    """With what `compare --plot` draws the differences."""
    calls: list[Any] = []
    monkeypatch.setattr(Axes, "errorbar", lambda self, *of, **options: calls.append((of, options)))
    run(*words, "--plot", "x.svg", capsys=capsys)
    (call,) = calls
    return call


@pytest.mark.parametrize("knowing", [1, 2])
def test_articles_are_known_of_if_any_file_does(
    capsys: pytest.CaptureFixture[str], knowing: int
) -> None:
    """Three files of four leave out the source."""
    for name, nats in {"a": 100, "b": 101}.items():
        for seed in (1, 2):
            content = result(nats, seed)
            for number, document in enumerate(content["documents"] if name == "b" else []):
                document["nats"] += number % 15 / 7  # by document, in each article alike
            if (name, seed) == ("b", knowing):
                for number, document in enumerate(content["documents"]):
                    document["source"] = f"article {number // 15}"
            write(f"{name}{seed}.json", content)
    by_name = [run("--group", "a=a*.json", "--group", "b=b*.json", capsys=capsys)]
    for file in Path().glob("b*.json"):
        content = json.loads(file.read_text())
        for number, document in enumerate(content["documents"]):
            document["source"] = f"article {number // 15}"
        write(str(file), content)
    by_name.append(run("--group", "a=a*.json", "--group", "b=b*.json", capsys=capsys))
    assert by_name[0]["groups"] == by_name[1]["groups"]


def test_a_document_without_text_parts_no_article(capsys: pytest.CaptureFixture[str]) -> None:
    intervals = []
    for empty in (None, "another"):
        for name, nats in {"a": 100, "b": 101}.items():
            for seed in (1, 2):
                content = result(nats, seed)
                for document in content["documents"]:
                    document["source"] = "one"
                content["documents"][0] |= {"bytes": 0, "nats": 1.0}
                content["documents"][0] |= {"source": empty or "one"}
                write(f"{name}{seed}.json", content)
        found = run("--group", "a=a*.json", "--group", "b=b*.json", capsys=capsys)
        assert found["notes"] == []  # as many documents as texts, told apart by nothing else
        intervals.append([found["groups"][1][key] for key in ("low", "high")])
    assert intervals[0] == intervals[1]


def test_one_file_counts_once_however_its_path_is_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("a1", "a2", "b1", "b2"):
        write(f"{name}.json", result(100, int(name[1])))
    groups = ["--group", "a=a*.json", "--group", "b=b*.json"]
    found = run("./b1.json", *groups, capsys=capsys)
    assert [one["group"] for one in found["groups"]] == ["b", "a"]
    with pytest.raises(UserError, match=r"a1\.json is named twice"):
        run("a1.json", "./a1.json", capsys=capsys)


def test_a_group_may_lie_at_home(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(Path.cwd()))
    for name in ("a1", "a2", "b1", "b2"):
        write(f"{name}.json", result(100, int(name[1])))
    found = run("--group", "a=~/a*.json", "--group", "b=~/b*.json", capsys=capsys)
    assert [one["runs"] for one in found["groups"]] == [2, 2]


@pytest.mark.parametrize("name", ["a.json.gz", "a.JSON"])
def test_a_file_of_another_ending_is_no_revision(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with pytest.raises(UserError, match=rf"{name}: a result file ends in \.json: unpack or rename"):
        run(write("b.json", result()), write(name, result()), capsys=capsys)


def test_a_file_whose_name_is_not_utf_8_is_told_as_that() -> None:
    with pytest.raises(UserError, match="not a result file: 'utf-8' codec can't encode"):
        result_file.read(write("r\udce9s.json", result()))


def test_a_seed_may_come_from_a_table_of_floats(capsys: pytest.CaptureFixture[str]) -> None:
    write("a.json", result(100, seed=1))
    write("b.json", result(120, seed=1) | {"made_by": {"train.seed": 1.0}})
    found = run("--group", "a=a.json", "--group", "b=b.json", capsys=capsys)
    assert found["groups"][1]["difference"] == pytest.approx(20 / np.log(2) / 200, rel=0.1)


def test_a_seed_may_come_from_the_words_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    for name, as_text in {"a": int, "b": str}.items():
        for seed in (1, 2):
            made_by = {"train.seed": as_text(seed), "p": name}
            write(f"{name}{seed}.json", result(100, seed, made_by=made_by))
    names = sorted(map(str, Path().glob("*.json")))
    assert run(*names, "--by", "p", capsys=capsys)["groups"][1]["verdict"] == "cannot tell"


def test_no_seed_is_as_none(capsys: pytest.CaptureFixture[str]) -> None:
    write("a.json", result(100, made_by={"train.seed": None, "p": 1}))
    write("b.json", result(100, made_by={"p": 2}))
    (_, other) = run("a.json", "b.json", "--by", "p", capsys=capsys)["groups"]
    assert other["verdict"] == "cannot tell: one seed"


def test_groups_without_a_common_seed_are_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        write(f"a-{number}.json", result(100, seed=number))
        write(f"b-{number}.json", result(120, seed=number + 2))
    found = run("--group", "a=a-*", "--group", "b=b-*", capsys=capsys)
    assert found["notes"] == ["b and a have no train.seed in common: 3, 4 and 1, 2"]


def test_files_without_a_seed_are_told_what_they_lack(capsys: pytest.CaptureFixture[str]) -> None:
    for number, made_by in enumerate([{"rate": 0}, {"rate": 0}, {"rate": 1}]):
        write(f"{number}.json", result(100 + number, made_by=made_by))
    with pytest.raises(UserError, match=r"losses differ: give each its train\.seed in made_by"):
        run("0.json", "1.json", "2.json", "--by", "rate", capsys=capsys)


def test_a_file_that_is_not_there_is_no_revision(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"nope\.json: no such result file"):
        run(write("a.json", result()), "nope.json", capsys=capsys)


def test_one_way_to_group(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="take one"):
        run("--group", "a=*.json", "--by", "train.seed", capsys=capsys)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"stride": 32}, "a.json was evaluated with evaluate.stride 64, b.json with 32"),
        ({"across_documents": True}, "with evaluate.across_documents False, b.json with True"),
        ({"end_of_text": False}, "with tokenize.end_of_text True, b.json with False"),
        ({"context": 1024, "tokenizer": "another"}, None),
    ],
)
def test_what_was_measured_otherwise_is_not_compared(
    changes: dict[str, Any], why: str | None
) -> None:
    other = result()
    other["measured"] |= changes
    runs = [result_file.read(write(n, c)) for n, c in (("a.json", result()), ("b.json", other))]
    if why is None:
        check_comparable(runs)
        return
    with pytest.raises(UserError) as error:
        check_comparable(runs)
    assert why in message(error)


def test_how_the_texts_were_measured_is_not_how_the_model_was_made() -> None:
    other = result(made_by={"tokenize.end_of_text": False, "evaluate.stride": 1})
    check_comparable(
        [result_file.read(write(n, c)) for n, c in (("a.json", result()), ("b.json", other))]
    )


def test_other_texts_are_not_compared() -> None:
    other = result()
    other["documents"][3]["sha256"] = "0" * 64
    runs = [result_file.read(write(n, c)) for n, c in (("a.json", result()), ("b.json", other))]
    with pytest.raises(UserError, match=r"a.json and b.json were evaluated on other held-out"):
        check_comparable(runs)


def test_one_text_has_one_number_of_bytes() -> None:
    """Else the same nats would be other bits a byte."""
    other = result()
    other["documents"][3]["bytes"] = 100
    runs = [result_file.read(write(n, c)) for n, c in (("a.json", result()), ("b.json", other))]
    with pytest.raises(UserError, match=r"a\.json has 200 bytes for the text of sha256 \w{8}, b"):
        check_comparable(runs)


def document(**changes: Any) -> dict[str, Any]:
    content = result()
    content["documents"][1] |= changes
    return content


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ([], "a.json: not a result file: it holds no JSON object; see"),
        (result(format="other"), "format is 'other': input should be 'dropgpt result 1'"),
        (result(more=1), "more: unknown key; remove it"),
        (result(documents=[]), "a.json: documents"),
        (
            result(made_by={"a": [1]}),
            "made_by.a is [1]: input should be text, a number, true, false or null;",
        ),
        (document(nats="1"), "documents.1.nats is '1': input should be a valid number"),
        (document(nats=-1.0), "documents.1.nats is -1.0: input should be greater"),
        (document(nats=float("nan")), "documents.1.nats is nan: input should be a finite number"),
        (document(id="\ud800"), "a.json: not a result file: 'utf-8' codec can't encode"),
        (document(sha256="abc"), "documents.1.sha256 is 'abc': string should match"),
        (document(id="text 0"), "two documents have the id 'text 0'"),
        (result(documents=[{}] * 9), "and 42 more; see docs/results.md"),
    ],
)
def test_a_file_of_another_form_is_told_in_a_line(content: Any, why: str) -> None:
    with pytest.raises(UserError) as error:
        result_file.read(write("a.json", content))
    assert why in message(error)
    assert message(error).startswith("a.json: ")


@pytest.mark.parametrize("content", ["{", "[" * 100_000], ids=["cut off", "nested"])
def test_a_file_that_is_no_json_is_told_in_a_line(content: str) -> None:
    Path("a.json").write_text(content)
    with pytest.raises(UserError, match=r"a.json: not a result file: .*; see docs/results.md"):
        result_file.read("a.json")
