"""A stand-in for the Hugging Face hub: one dataset, on the loopback, served from memory.

`python tests/hub.py FILE...` serves these parquet files, and prints what HF_ENDPOINT is to be.
"""

import io
import json
import mmap
import random
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from threading import Thread
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

REVISION = "9bb295ddab0e05d785b879661af7260fed5140fc"
CONFIG = "CC-MAIN-2013-20"
README = f"""---
configs:
- config_name: {CONFIG}
  data_files:
  - split: train
    path: data/{CONFIG}/*
---
"""
COLUMNS = pa.schema(
    [(name, pa.string()) for name in ("text", "id", "dump", "url", "date", "file_path", "language")]
    + [("language_score", pa.float64()), ("token_count", pa.int64())]
)


def parquet(rows: list[dict[str, Any]], group: int | None = None) -> bytes:
    """A parquet file with FineWeb's nine columns, in row groups of `group`; what lacks is null."""
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, COLUMNS), sink, group)
    return sink.getvalue()


def rows(*numbers: int) -> list[dict[str, Any]]:
    """Rows of FineWeb with texts that do not compress, so that a file is not in one piece."""
    return [
        {
            "text": f"text {n} " + random.Random(n).randbytes(300).hex(),
            "id": f"<urn:uuid:{n}>",
            "url": f"http://site/{n}",
            "token_count": n,
        }
        for n in numbers
    ]


@contextmanager
def serving(
    *tables: list[dict[str, Any]] | mmap.mmap,
    fault: Literal["cut", "stall", "listing"] | None = None,
    group: int | None = None,
    outage: float = 0,
) -> Iterator[str]:
    """Serve HuggingFaceFW/fineweb with one parquet file a table; gives what HF_ENDPOINT is to be.

    A table may be such a file already, mapped.

    `fault` befalls the last file whenever its first half is asked for (the footer, at its end, is
    well): `cut` closes the connection halfway through the answer, `stall` leaves it open. With
    `listing`, there is nothing but the README to be had. In an `outage` of so many seconds nothing
    is answered; it begins when the middle of the last file is first asked for. A row group has
    `group` rows.
    """
    names = [f"data/{CONFIG}/000_{n:05}.parquet" for n in range(len(tables))]
    contents = [parquet(t, group) if isinstance(t, list) else t for t in tables]
    files = {"README.md": README.encode(), **dict(zip(names, contents, strict=True))}
    oids = {name: sha1(content).hexdigest() for name, content in files.items()}
    paths = ["data", f"data/{CONFIG}", *files]
    began: list[float] = []  # when the outage did

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def answer(self) -> None:
            if began and time.monotonic() < began[0] + outage:
                self.close_connection = True
                return
            path = unquote(urlsplit(self.path).path).removeprefix("/api")
            found = re.fullmatch(
                r"/datasets/HuggingFaceFW/fineweb"
                r"(?:/(?P<what>resolve|revision|tree|paths-info)/(?P<revision>[^/]+)(?:/(?P<path>.*))?)?",
                path,
            )
            if not found or (fault == "listing" and found["what"] != "resolve"):
                return self.refuse("RepoNotFound")
            if found["revision"] not in (None, REVISION):
                return self.refuse("RevisionNotFound")
            match found["what"]:
                case "resolve":
                    self.send_file(found["path"])
                case "tree":
                    parent = found["path"] or "."
                    self.send_json(
                        [entry(p) for p in paths if str(PurePosixPath(p).parent) == parent]
                    )
                case "paths-info":
                    body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                    self.send_json([entry(path) for path in body["paths"] if path in paths])
                case _:
                    siblings = [{"rfilename": name} for name in files]
                    self.send_json(
                        {"id": "HuggingFaceFW/fineweb", "sha": REVISION, "siblings": siblings}
                    )

        def refuse(self, code: str) -> None:
            self.send(404, b"", {"X-Error-Code": code})

        def send_json(self, value: Any) -> None:
            self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def send_file(self, name: str) -> None:
            if name not in files:
                return self.refuse("EntryNotFound")
            content = files[name]
            headers = {
                "ETag": f'"{oids[name]}"',
                "X-Repo-Commit": REVISION,
                "Accept-Ranges": "bytes",
            }
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "bytes=0-"))
            assert asked
            start, end = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            broken = name in names[-1:] and start < len(content) / 2
            if outage and not began and broken and start > len(content) / 4:
                began.append(time.monotonic())
                return self.answer()
            status = 206 if "Range" in self.headers else 200
            self.send(status, content[start : end + 1], headers, fault if broken else None)

        def send(
            self, status: int, body: bytes, headers: dict[str, str], fault: str | None = None
        ) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[: len(body) // 2] if fault else body)
            if fault == "stall":
                time.sleep(600)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    def entry(path: str) -> dict[str, Any]:
        if path not in files:
            return {"type": "directory", "path": path, "size": 0, "oid": ""}
        return {"type": "file", "path": path, "size": len(files[path]), "oid": oids[path]}

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def mapped(path: str) -> mmap.mmap:
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


if __name__ == "__main__":
    with serving(*map(mapped, sys.argv[1:])) as endpoint:
        print(endpoint, flush=True)
        signal.pause()
