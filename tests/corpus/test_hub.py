"""Any data set on the hub: what comes of it, and the line where it does not come."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import hub
from clone import Clone, environment, wait_for
from conftest import data_params
from dropgpt.corpus import document
from dropgpt.corpus.document import Document
from dropgpt.machine import provenance
from dropgpt.tokens import tensor

# All in one process, which imports `datasets` once: what is asked for, or the error.
READ = """
import json, os, sys, tempfile
from dropgpt import corpus
from dropgpt.corpus import hub, hub_process, hub_shards
from dropgpt.errors import UserError
from dropgpt.params import Data

def here(name, work, *arguments):
    with tempfile.TemporaryDirectory() as cache:
        try:
            yield from work(*arguments, cache)
        except Exception as error:
            raise hub_process.told(name, error)

hub.from_process = hub_shards.from_process = here

def read(data):
    splits = corpus.splits(data)
    about = corpus.about(data)
    del about["data"]
    if data.documents:
        parts = [list(corpus.documents(data)), list(corpus.held_out(data))]
    else:
        parts = [
            [one for s in list(hub_shards.of_split(d, 60)) for one in hub_shards.documents(s, d, 1)]
            for d in splits
        ]
    return about, parts

for case in json.loads(sys.argv[1]):
    os.environ["HF_TOKEN"] = case.pop("token")
    try:
        told = read(Data.model_validate(case))
    except UserError as error:
        told = str(error)
    print("told: " + json.dumps(told), flush=True)
os._exit(0)
"""


def asked(**changes: Any) -> dict[str, Any]:
    """Section data, and a token."""
    token = changes.pop("token", "")
    wanted = {"source": "hub", "documents": 10, "revision": hub.COMMIT}
    return data_params(**(wanted | changes)).model_dump() | {"token": token}


STORIES, WIKITEXT = {"dataset": hub.STORIES}, {"dataset": hub.WIKITEXT}
LINES = {"dataset": "me/lines"}
CONVERTED = hub.json_lines().converted_revision
ASKED: dict[str, dict[str, Any]] = {
    "the first": asked(**STORIES),
    "held out": asked(**STORIES, held_out_split="validation"),
    "all": asked(**STORIES, documents=None, held_out_split="validation"),
    "a config": asked(**WIKITEXT, config="wikitext-2-raw-v1", split="test"),
    "all of a config": asked(**WIKITEXT, config="wikitext-2-raw-v1", split="test", documents=None),
    "FineWeb by its name": asked(
        dataset="HuggingFaceFW/fineweb", config=hub.CONFIG, revision=hub.REVISION, documents=4
    ),
    "FineWeb": asked(source="fineweb", revision=None, documents=4),
    "JSON Lines": asked(**LINES),
    "converted": asked(**LINES, revision=CONVERTED, config="default", documents=None),
    "private": asked(dataset="me/private", token="hf_mine", documents=2),
    "private, by a stranger": asked(dataset="me/private", token="hf_other"),
    "gated, unknown": asked(dataset="me/gated"),
    "gated, refused": asked(dataset="me/gated", token="hf_other"),
    "none": asked(dataset="me/none"),
    "no name": asked(dataset="a b"),
    "no revision": asked(**STORIES, revision=None),
    "no card, no revision": asked(**LINES, revision=None),
    "a branch": asked(**STORIES, revision="main"),
    "another revision": asked(**STORIES, revision="1" * 40),
    "no config": asked(**WIKITEXT),
    "another config": asked(**WIKITEXT, config="wikitext-1"),
    "another split": asked(**STORIES, split="trian"),
    "another split, all": asked(**STORIES, split="trian", documents=None),
    "another held-out split": asked(**WIKITEXT, config="wikitext-2-raw-v1", held_out_split="dev"),
    "another column": asked(**STORIES, text_column="story"),
    "another column, all": asked(**STORIES, text_column="story", documents=None),
    "another key": asked(**LINES, text_column="story"),
    "a number": asked(**LINES, text_column="id"),
    "a broken card": asked(dataset="me/broken"),
    "a date": asked(dataset="me/latin", documents=1),
    "not UTF-8": asked(dataset="me/latin", documents=4),
    "not UTF-8, all": asked(dataset="me/latin", documents=None),
    "messages": asked(dataset="me/chat", text_column="messages"),
    "messages, all": asked(dataset="me/chat", text_column="messages", documents=None),
    "too many": asked(**STORIES, documents=301),
    "too many of a config": asked(**WIKITEXT, config="wikitext-2-raw-v1", documents=41),
    "no parquet": asked(**LINES, documents=None),
    "converted, no config": asked(**LINES, revision=CONVERTED, documents=None),
    "a part": asked(**LINES, revision=CONVERTED, config="default", split="test"),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of each of ASKED, and all that was printed."""
    others = [hub.stories(), hub.wikitext(), hub.json_lines(), hub.chat(), hub.broken()]
    others += [hub.latin()]
    others += [hub.shut("me/gated", gated=True), hub.shut("me/private", token="hf_mine")]
    with hub.serving(hub.rows(*range(4)), others=others) as endpoint:
        done = subprocess.run(
            [sys.executable, "-c", READ, json.dumps(list(ASKED.values()))],
            env=online(endpoint, tmp_path_factory.mktemp("hub")),
            capture_output=True,
            text=True,
        )
    lines = [line[6:] for line in done.stdout.splitlines() if line.startswith("told: ")]
    assert len(lines) == len(ASKED), done.stderr
    found = dict(zip(ASKED, map(json.loads, lines), strict=True))
    return found | {"printed": done.stdout + done.stderr}


def online(endpoint: str, home: Path) -> dict[str, str]:
    here = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1"}
    offline = "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_TOKEN", "HF_HUB_CACHE"
    return {key: value for key, value in os.environ.items() if key not in offline} | here


def texts(part: list[list[str]]) -> list[str]:
    return [text for text, _, _ in part]


def test_the_first_rows_of_any_data_set(answers: dict[str, Any]) -> None:
    about, (training, held_out) = answers["the first"]
    expected = [Document(hub.story(n), name, name) for n, name in enumerate(named("train", 10))]
    assert [Document(*one) for one in training] == expected
    assert held_out == []
    assert about == {"card": {"license": "cdla-sharing-1.0"}}


def named(split: str, number: int) -> list[str]:
    return [f"roneneldan/TinyStories/{split}:{n}" for n in range(number)]


def test_a_split_of_its_own_is_held_out(answers: dict[str, Any]) -> None:
    _, (training, held_out) = answers["held out"]
    assert len(training) == 10
    assert texts(held_out) == [hub.story(n) for n in (*range(1000, 1029), 7)]
    assert [id for _, id, _ in held_out] == named("validation", 30)


def test_all_in_shards_is_the_same(answers: dict[str, Any]) -> None:
    _, (training, held_out) = answers["all"]
    assert texts(training) == [hub.story(n) for n in range(300)]
    assert [id for _, id, _ in training] == named("train", 300)
    assert held_out == answers["held out"][1][1]


def test_rows_without_a_text_are_no_documents(answers: dict[str, Any]) -> None:
    _, (some, _) = answers["a config"]
    assert texts(some) == [" = wikitext-2-raw-v1 = \n", " A test of <unk> words . \n"] * 5
    assert [id.split("/")[-1] for _, id, _ in some[:3]] == ["test:1", "test:3", "test:7"]
    about, (everything,) = answers["all of a config"]
    assert everything[:10] == some
    assert len(everything) == 40
    assert about == {"card": {"license": ["cc-by-sa-3.0", "gfdl"]}}
    assert "warning: left out as empty: 18 rows of split test" in answers["printed"]


def test_fineweb_is_one_of_them(answers: dict[str, Any]) -> None:
    assert answers["FineWeb by its name"][1] == answers["FineWeb"][1]
    assert answers["FineWeb"][0] == {}


def test_json_lines_are_read_as_they_are_and_as_converted(answers: dict[str, Any]) -> None:
    about, (lines, _) = answers["JSON Lines"]
    expected = [[hub.story(n), str(n), f"http://site/{n // 2}"] for n in range(30)]
    assert lines == expected[:10]
    assert about == {"card": {}}
    assert answers["converted"] == [{"card": {}}, [expected]]


def test_a_private_data_set_is_read_with_its_token(answers: dict[str, Any]) -> None:
    about, (found, _) = answers["private"]
    assert texts(found) == [row["text"] for row in hub.rows(1, 2)]
    assert about == {"card": {}}


def test_a_date_in_the_card_is_text(answers: dict[str, Any]) -> None:
    about, _ = answers["a date"]
    assert about == {"card": {"license": "other", "license_name": "2024-01-01"}}


@pytest.mark.parametrize(
    ("case", "line"),
    [
        ("private, by a stranger", "me/private is not on http://HUB; correct data.dataset or, if"),
        ("private, by a stranger", "if it is private, `hf auth login` first"),
        ("gated, unknown", "ask for access on http://HUB/datasets/me/gated, then `hf auth login`"),
        ("gated, refused", "me/gated is gated (403): ask for access on http://HUB/datasets/me"),
        ("none", "me/none is not on http://HUB; correct data.dataset"),
        ("no name", "data.dataset is 'a b', which is no OWNER/NAME"),
        ("no revision", f"data.revision is empty, and a run must .* `-S data.revision={'f' * 40}`"),
        ("no card, no revision", f"data.revision is empty.* `-S data.revision={'f' * 40}`"),
        ("a branch", f"data.revision is 'main', which may move.* `-S data.revision={'f' * 40}`"),
        ("another revision", f"data.revision is '{'1' * 40}', which roneneldan/TinyStories does"),
        ("no config", "data.config is empty, and Salesforce/wikitext has 2 configs"),
        ("no config", "set it to one of wikitext-103-raw-v1, wikitext-2-raw-v1$"),
        (
            "another config",
            "wikitext has no config 'wikitext-1' at .*; it has wikitext-103-raw-v1,",
        ),
        ("another split", "TinyStories has no split 'trian' at .*; it has train, validation$"),
        ("another split, all", "TinyStories has no split 'trian' at .*; it has train, validation$"),
        (
            "another held-out split",
            "no split 'dev' in config wikitext-2-raw-v1 at .*; it has test, train, ",
        ),
        ("another column", "data.text_column is 'story', which .*TinyStories .*; it has text$"),
        ("another column, all", "data.text_column is 'story', which .*Stories .*; it has text$"),
        ("another key", "data.text_column is 'story', which me/lines .*; it has text, id, url$"),
        ("a number", "me/lines, row 0: 'id' is int, and a document is one text, a string; name"),
        ("not UTF-8", "me/latin: a row is not UTF-8 at byte 3; name a data.revision without it$"),
        ("not UTF-8, all", "me/latin: row 2, in train.parquet, is not UTF-8 at byte 3; name a "),
        ("messages", "me/chat, row 0: 'messages' is list, and a document is one text, a string"),
        ("messages, all", "me/chat: 'messages' is list<.*content.*>, and a document is one text"),
        ("messages, all", "(its messages, say) as one text into a file in corpora/, for data.sou"),
        (
            "a broken card",
            f"me/broken: its card, README.md, cannot be read at {'f' * 40}: while pars",
        ),
        ("too many", "data.documents is 301, but split train of .*TinyStories has only 300; lower"),
        ("too many of a config", "config wikitext-2-raw-v1 of Salesforce/wikitext has only 40"),
        (
            "no parquet",
            "data.documents is empty, for which .* me/lines has train.jsonl; set data.d",
        ),
        ("no parquet", f"in parquet: `-S data.revision={CONVERTED} -S data.config=default`"),
        (
            "a part",
            "me/lines has no split 'test' in config default .*; it has partial-test, train$",
        ),
        (
            "converted, no config",
            "data.config is empty, and me/lines has 2 configs; .* default, own",
        ),
    ],
)
def test_what_is_not_there_is_told_in_a_line(answers: dict[str, Any], case: str, line: str) -> None:
    told = answers[case]
    assert isinstance(told, str), told
    assert "\n" not in told
    told = re.sub(r"127\.0\.0\.1:\d+", "HUB", told)
    parts = [re.escape(part) for part in line.removesuffix("$").split(".*")]
    assert re.search(".*".join(parts) + "$" * line.endswith("$"), told), told


def test_nobody_reads_a_credential(answers: dict[str, Any]) -> None:
    for said in answers["printed"], json.dumps(answers):
        assert "hf_" not in said


@pytest.fixture(scope="module")
def clones(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, Clone, list[str]]:
    """TinyStories with its own held-out split, in a file and in shards, and what tokenize said."""
    wanted = {"source": "hub", **STORIES, "revision": hub.COMMIT, "held_out_split": "validation"}
    folder = tmp_path_factory.mktemp("clones")
    clones = Clone(folder / "file"), Clone(folder / "shards")
    clones[0].set(data=wanted | {"documents": 300})
    clones[1].set(data=wanted | {"documents": None}, runtime={"threads": 1})
    said = []
    with hub.serving(others=[hub.stories()]) as endpoint:
        for stage in "download_fineweb", "tokenize":
            processes = [start(clone, stage, online(endpoint, folder)) for clone in clones]
            for process in processes:
                said.append(process.communicate()[1])
                assert process.returncode == 0, said[-1]
    return (*clones, said[2:])


def start(clone: Clone, stage: str, there: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}"],
        cwd=clone.folder,
        env=environment() | there | {"PYTHONPATH": str(clone.folder / "src")},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_held_out_split_is_what_is_held_out(clones: tuple[Clone, Clone, list[str]]) -> None:
    *both, said = clones
    found = [tensor.read(clone.folder / "data/tokens") for clone in both]
    np.testing.assert_array_equal(*(one.tokens for one in found))
    assert found[0].n_train == found[1].n_train
    for one, told in zip(found, said, strict=True):
        held_out = one.documents[one.documents.held_out]
        assert held_out.id.tolist() == named("validation", 30)
        assert "the last 30 of 330 documents\n" in told
        assert "tokenize.validation_fraction asks for" not in told
        assert "warning: 1 of 30 held-out documents" in told  # story 7 is in both


def test_what_it_is_and_its_licence_travel_with_the_tokens(
    clones: tuple[Clone, Clone, list[str]],
) -> None:
    for clone in clones[:2]:
        assert isinstance(clone, Clone)
        record = provenance.read(clone.folder / "data/tokens")["tokenize"]
        assert record["card"] == {"license": "cdla-sharing-1.0"}
        said = record["params"]["data"]
        assert (said["dataset"], said["revision"]) == (hub.STORIES, hub.COMMIT)
        assert (said["split"], said["held_out_split"]) == ("train", "validation")


@pytest.mark.slow
def test_killed_in_the_shards_it_goes_on_and_ends_in_the_same_bytes(
    clones: tuple[Clone, Clone, list[str]], tmp_path: Path
) -> None:
    undisturbed = clones[1]
    clone = undisturbed.copy(tmp_path / "clone")
    shutil.rmtree(clone.folder / "data/tokens")

    def made() -> list[Path]:
        return sorted((clone.folder / "checkpoints/shards").glob("*/[0-9]*[0-9]"))

    with hub.serving(others=[hub.stories()]) as endpoint:
        process = start(clone, "tokenize", online(endpoint, tmp_path))
        wait_for(made)
        process.kill()
        process.communicate()
        before = {path: path.stat().st_ctime_ns for path in made()}
        assert 0 < len(before) <= 3
        assert not (clone.folder / "data/tokens").exists()
        clone.set(runtime={"threads": 2})
        process = start(clone, "tokenize", online(endpoint, tmp_path))
        _, told = process.communicate()
        assert process.returncode == 0, told
    for file in (undisturbed.folder / "data/tokens").iterdir():
        assert (clone.folder / "data/tokens" / file.name).read_bytes() == file.read_bytes()


def test_another_number_held_out_is_damage(
    clones: tuple[Clone, Clone, list[str]], tmp_path: Path
) -> None:
    written = clones[0].folder / "data/documents.parquet"
    assert document.about(written)["held_out"] == 30
    (tmp_path / "a.parquet").write_bytes(written.read_bytes().replace(b'ut": 30}', b'ut": 31}'))
    pq.read_metadata(tmp_path / "a.parquet")
    with pytest.raises(document.UserError, match="are not those that were written"):
        list(document.read(tmp_path / "a.parquet"))
