"""A whole config of FineWeb, in shards: `python -m benchmarks.whole_fineweb 10 2`

That is 10 GB of text and two processes, as one row of a table. The text is the offline corpus again
and again, each time with ids of its own, from a stand-in for the hub on this machine. Beside it,
tiktoken alone in as many threads.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.timing import timed
from benchmarks.whole_stages import PROJECT, START, project, tokenize_tiktoken
from dropgpt.corpus import wikipedia

CONFIG = "CC-MAIN-2013-20"  # the one that the stand-in has
ROUNDS_A_FILE = 64  # of the offline corpus, half a gigabyte of text
GROUP = 1000  # rows of a row group
HEAD = """| text | processes | tokens | shards | list the shards | tokenize | tokens a second | \
of a core, a second | tiktoken alone | train begins after | largest process |
|---|---|---|---|---|---|---|---|---|---|---|"""


def corpus(folder: Path, gigabytes: float) -> tuple[list[Path], float]:
    """Its parquet files, and the bytes of its texts."""
    texts = [document.text for document in wikipedia.documents()]
    size = sum(len(text.encode()) for text in texts)
    rounds = round(gigabytes * 1e9 / size)
    files = []
    for begin in range(0, rounds, ROUNDS_A_FILE):
        files.append(folder / f"{begin:06}.parquet")
        schema = pa.schema([(name, pa.string()) for name in ("text", "id", "url")])
        with pq.ParquetWriter(files[-1], schema) as writer:
            for number in range(begin, min(begin + ROUNDS_A_FILE, rounds)):
                ids = [f"{number}-{place}" for place in range(len(texts))]
                urls = [f"http://site/{id}" for id in ids]
                writer.write_table(pa.table([texts, ids, urls], schema), row_group_size=GROUP)
    return files, rounds * size


@contextmanager
def hub(files: list[Path]) -> Iterator[None]:
    server = subprocess.Popen(
        [sys.executable, PROJECT / "tests/hub.py", *files], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout
    os.environ["HF_ENDPOINT"] = server.stdout.readline().strip()
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    try:
        yield
    finally:
        server.kill()
        server.wait()


class Stage:
    """One run of a stage: seconds by the clock and of the processors, and the largest process."""

    def __init__(self, *command: str) -> None:
        self.peak = 0
        with timed() as timer:
            process = subprocess.Popen([sys.executable, *command])
            ended = Event()
            watch = Thread(target=self._watch, args=(psutil.Process(process.pid), ended))
            watch.start()
            _, status, usage = os.wait4(process.pid, 0)
            ended.set()
            watch.join()
        if status:
            sys.exit(f"{command} failed")
        self.seconds = timer.seconds
        self.of_cores = usage.ru_utime + usage.ru_stime

    def _watch(self, process: psutil.Process, ended: Event) -> None:
        while not ended.wait(0.2):
            with suppress(psutil.Error):
                for one in [process, *process.children(recursive=True)]:
                    found = one.memory_info()
                    # Not the pages of mapped files, which the system takes back.
                    self.peak = max(self.peak, found.rss - found.shared)


def main(gigabytes: float, processes: int) -> None:
    with TemporaryDirectory() as folder:
        files, size = corpus(Path(folder), gigabytes)
        data = {"source": "fineweb", "documents": None, "config": CONFIG}
        runtime = {"threads": processes}
        with (
            hub(files),
            project(data=data, tokenize={"validation_fraction": 1e-4}, runtime=runtime),
        ):
            stages = [
                Stage("-m", "stages.download_fineweb"),
                Stage("-m", "stages.tokenize"),
                Stage("-c", START.format("train")),
            ]
            listed, tokenized, begun = stages
            tokens = json.loads(Path("data/statistics.json").read_text())["tokens"]
            shards = json.loads(Path("data/tokens/vocabulary.json").read_text())["shards"]
    alone = tokenize_tiktoken(27, processes) * 1e6 * tokens / size
    cells = [
        f"{size / 1e9:.2f} GB",
        f"{processes}",
        f"{tokens:,}",
        f"{shards}",
        f"{listed.seconds:.1f} s",
        f"{tokenized.seconds:.0f} s",
        f"{tokens / tokenized.seconds:,.0f}",
        f"{tokens / tokenized.of_cores:,.0f}",
        f"{alone:,.0f}",
        f"{begun.seconds:.1f} s",
        f"{max(stage.peak for stage in stages) / 1e6:.0f} MB",
    ]
    print(HEAD, f"| {' | '.join(cells)} |", sep="\n")


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
