import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import hub
from conftest import data_params as data
from dropgpt import corpus
from dropgpt.corpus import document, fineweb, hub_shards
from dropgpt.corpus.document import Document
from dropgpt.corpus.hub_shards import Shard
from dropgpt.errors import UserError

READ_IN_SHARDS = """
import json, sys
from dropgpt.corpus import fineweb, hub_shards
least, patience = sys.argv[1:]
dataset = fineweb.dataset(None, None)
shards = list(hub_shards.of_split(dataset, int(least)))
read = (list(hub_shards.documents(shard, dataset, float(patience))) for shard in shards)
print(json.dumps([shards, [one for part in read for one in part]]))
"""


def read_in_shards(endpoint: str, least: int, patience: float = 60) -> subprocess.Popen[str]:
    """In a process of its own, since the hub's client reads HF_ENDPOINT but once."""
    return subprocess.Popen(
        [sys.executable, "-c", READ_IN_SHARDS, str(least), str(patience)],
        env={**os.environ, "HF_ENDPOINT": endpoint},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_shards_are_the_rows_in_order_in_whole_row_groups(online: pytest.MonkeyPatch) -> None:
    first, second = hub.rows(*range(7)), hub.rows(*range(7, 10))
    first[1]["url"] = first[2]["id"] = second[1]["id"] = second[1]["url"] = None
    second[2]["text"] = ""
    with hub.serving(first, second, group=2) as endpoint:
        out, _ = read_in_shards(endpoint, 3).communicate()
        online.setenv("HF_ENDPOINT", endpoint)
        expected = list(corpus.documents(data(source="fineweb", documents=10)))
    shards, found = json.loads(out)
    assert [shard[2:] for shard in shards] == [[0, 2, 0, 4], [2, 2, 4, 3], [0, 2, 7, 3]]
    assert [Document(*one) for one in found] == expected


def test_a_hub_that_goes_away_in_mid_shard_costs_a_retry(online: pytest.MonkeyPatch) -> None:
    table = hub.rows(*range(30_000))
    with hub.serving(table, group=1000, outage=3) as endpoint:
        out, line = read_in_shards(endpoint, 30_000).communicate()
    assert line.startswith("warning: data/CC-MAIN-2013-20/000_00000.parquet: ")
    assert line.endswith("; trying again for 60 seconds\n")
    assert [text for text, _, _ in json.loads(out)[1]] == [row["text"] for row in table]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "no room"), MemoryError(), pa.ArrowMemoryError("malloc failed")]
)
def test_what_befalls_this_machine_is_not_waited_out(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def failing(**_: bool) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub, "HfFileSystem", failing)
    shard = hub_shards.Shard("data/a.parquet", "f0", 0, 1, 0, 10)
    with pytest.raises(type(error)):
        next(hub_shards.documents(shard, fineweb.dataset(None, None)))


def test_a_hub_that_stays_away_ends_it(online: pytest.MonkeyPatch) -> None:
    with hub.serving(hub.rows(*range(30_000)), group=1000, outage=600) as endpoint:
        _, lines = read_in_shards(endpoint, 30_000, patience=1).communicate()
    assert f"UserError: cannot read HuggingFaceFW/fineweb from {endpoint}: " in lines


def test_a_list_of_an_earlier_version_and_a_corpus_are_no_list_of_shards(tmp_path: Path) -> None:
    path = tmp_path / "documents.parquet"
    hub_shards.write([Shard("data/0.parquet", "1", 0, 1, 0, 10)], path)
    pq.write_table(pq.read_table(path).replace_schema_metadata(), path)
    with pytest.raises(UserError, match="it has no checksum, as one of an earlier version; remove"):
        hub_shards.read(path)
    document.write([Document("text", "id", "source")], path)
    with pytest.raises(UserError, match=r"not a whole list of shards.*path.*fineweb` makes it"):
        hub_shards.read(path)
