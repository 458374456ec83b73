import errno
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import hub
from conftest import data_params as data
from conftest import message
from dropgpt import corpus
from dropgpt.corpus import document, fineweb, hub_process
from dropgpt.corpus.document import Document
from dropgpt.errors import UserError


def documents(number: int, **changes: str) -> Iterator[Document]:
    return corpus.documents(data(source="fineweb", documents=number, **changes))


def test_fineweb_gives_its_first_rows_in_order(online: pytest.MonkeyPatch) -> None:
    first, second = hub.rows(*range(3)), hub.rows(*range(3, 6))
    first[1]["url"] = None
    second[0]["id"] = second[0]["url"] = None
    with hub.serving(first, second) as endpoint:
        online.setenv("HF_ENDPOINT", endpoint)
        found = list(corpus.documents(data(source="fineweb", documents=5)))
    assert [document.text for document in found] == [row["text"] for row in first + second[:2]]
    assert [(document.id, document.source) for document in found] == [
        ("<urn:uuid:0>", "http://site/0"),
        ("<urn:uuid:1>", "<urn:uuid:1>"),
        ("<urn:uuid:2>", "http://site/2"),
        ("fineweb:3", "fineweb:3"),
        ("<urn:uuid:4>", "http://site/4"),
    ]


def test_a_short_fineweb_does_not_pass_for_whole(
    online: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with hub.serving(hub.rows(0, 1), hub.rows(2)) as endpoint:
        online.setenv("HF_ENDPOINT", endpoint)
        with pytest.raises(UserError) as error:
            document.write(documents(4), tmp_path / "corpus.parquet")
    assert "data.documents is 4" in message(error)
    assert "only 3" in message(error)
    assert not (tmp_path / "corpus.parquet").exists()


def test_a_line_cut_in_mid_file_leaves_the_earlier_corpus(
    online: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    output = tmp_path / "corpus.parquet"
    output.write_bytes(b"earlier")
    before = sorted(os.listdir(tmp_path))
    with hub.serving(hub.rows(0, 1), hub.rows(*range(2, 1000)), fault="cut") as endpoint:
        online.setenv("HF_ENDPOINT", endpoint)
        stream = documents(1000)
        head = [next(stream), next(stream)]  # it was in the middle
        with pytest.raises(UserError) as error:
            document.write((document for part in (head, stream) for document in part), output)
    assert f"cannot read HuggingFaceFW/fineweb from {endpoint}" in message(error)
    assert "peer closed connection" in message(error)
    assert "dvc exp run -S data.source=wikipedia" in message(error)
    assert output.read_bytes() == b"earlier"
    assert sorted({*os.listdir(tmp_path)} - {"hub", "__pycache__"}) == before
    with hub.serving(hub.rows(0, 1), hub.rows(*range(2, 1000))) as endpoint:  # the same again
        online.setenv("HF_ENDPOINT", endpoint)
        again = documents(1000)
        assert document.write(again, output) == 1000
    assert [text for text, _, _ in document.read(output)] == [
        row["text"] for row in hub.rows(*range(1000))
    ]


def test_a_hub_that_stalls_is_given_up(online: pytest.MonkeyPatch) -> None:
    online.setattr(hub_process, "PATIENCE", 4)
    start = time.monotonic()
    with hub.serving(hub.rows(*range(1000)), fault="stall") as endpoint:
        online.setenv("HF_ENDPOINT", endpoint)
        with pytest.raises(UserError, match=r"nothing came for 4 seconds.*data\.source=wikipedia"):
            next(documents(1))
    assert time.monotonic() - start < 30


def three(cache: str) -> Iterator[int]:
    yield from range(3)


def failing(error: Exception, cache: str) -> Iterator[int]:
    yield 1
    raise error


def test_the_patience_with_the_hub_begins_when_it_is_asked(online: pytest.MonkeyPatch) -> None:
    """And not while a process starts and imports what it needs, which takes longer than this."""
    online.setattr(hub_process, "PATIENCE", 0.5)
    assert list(hub_process.from_process("me/texts", three)) == [0, 1, 2]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left", "/tmp/a"), MemoryError("malloc failed")]
)
def test_what_befalls_this_machine_is_not_told_as_the_hubs(
    online: pytest.MonkeyPatch, error: Exception
) -> None:
    found = hub_process.from_process("me/texts", failing, error)
    assert next(found) == 1
    with pytest.raises(type(error), match=re.escape(str(error))):
        next(found)


def test_without_a_hub_the_user_learns_what_runs_offline(online: pytest.MonkeyPatch) -> None:
    with hub.serving() as endpoint:
        pass  # a port that was open and is closed
    online.setenv("HF_ENDPOINT", endpoint.replace("://", "://user:password@"))
    online.setenv("HF_TOKEN", "hf_token")
    start = time.monotonic()
    with pytest.raises(UserError) as error:
        next(documents(3))
    assert time.monotonic() - start < 30
    assert f"cannot read HuggingFaceFW/fineweb from {endpoint}: ConnectError" in message(error)
    assert "dvc exp run -S data.source=wikipedia" in message(error)
    assert "password" not in message(error)
    assert "hf_token" not in message(error)


def test_no_cached_copy_stands_in_for_the_hub(online: pytest.MonkeyPatch) -> None:
    with hub.serving(hub.rows(0)) as endpoint:
        code = "import sys, datasets; datasets.load_dataset(*sys.argv[1:3], revision=sys.argv[3])"
        command = [sys.executable, "-c", code, fineweb.NAME, hub.CONFIG, hub.REVISION]
        environment = {**os.environ, "HF_ENDPOINT": endpoint}
        subprocess.run(command, env=environment, check=True, capture_output=True)
    with hub.serving(hub.rows(0), fault="listing") as endpoint:
        online.setenv("HF_ENDPOINT", endpoint)
        with pytest.raises(UserError, match=f"cannot read HuggingFaceFW/fineweb from {endpoint}"):
            next(documents(1))


def test_an_unknown_config_or_revision_is_named(online: pytest.MonkeyPatch) -> None:
    with hub.serving(hub.rows(0)) as endpoint:
        online.setenv("HF_ENDPOINT", endpoint)
        with pytest.raises(
            UserError, match=r"no config 'CC-MAIN-1066-01' at .*; it has CC-MAIN-2013"
        ):
            next(documents(1, config="CC-MAIN-1066-01"))
        with pytest.raises(UserError, match=r"data\.revision is 'v9', which .* does not have"):
            next(documents(1, revision="v9"))


def test_an_error_shows_no_credential() -> None:
    text = "GET http://me:secret@host/a?Signature=secret&x=1 'Bearer secret' hf_secret"
    assert hub_process.public(text) == "GET http://host/a 'Bearer ***' hf_***"
