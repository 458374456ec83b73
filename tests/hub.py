"""A stand-in for the Hugging Face hub: data sets on the loopback, served from memory.

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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from threading import Thread
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from dropgpt.corpus import fineweb

REVISION = fineweb.REVISION
CONFIG = fineweb.CONFIG
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


def parquet(
    rows: list[dict[str, Any]], group: int | None = None, columns: pa.Schema = COLUMNS
) -> bytes:
    """A parquet file with FineWeb's nine columns, in row groups of `group`; what lacks is null."""
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, columns), sink, group)
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


@dataclass
class Repository:
    """A data set: its files by path, at one commit.

    converted  what the hub has made of it: the files of refs/convert/parquet, at their commit
    token      who does not show it learns of no such data set
    gated      nobody may read its files
    """

    name: str
    files: dict[str, bytes | mmap.mmap]
    revision: str = REVISION
    converted: dict[str, bytes | mmap.mmap] = field(default_factory=dict)
    token: str | None = None
    gated: bool = False

    @property
    def converted_revision(self) -> str:
        return sha1(self.name.encode()).hexdigest()

    def at(self, revision: str | None) -> dict[str, bytes | mmap.mmap] | None:
        """The files there; None where there is no such revision."""
        if self.converted and revision == self.converted_revision:
            return self.converted
        return self.files if revision in (None, "main", self.revision) else None


STORIES, WIKITEXT, COMMIT = "roneneldan/TinyStories", "Salesforce/wikitext", "f" * 40
WIKITEXTS = ["wikitext-103-raw-v1", "wikitext-2-raw-v1"]
TEXTS = pa.schema({"text": pa.string()})


def story(n: int) -> str:
    """A short story, another one for each `n`."""
    draw = random.Random(n)
    name, animal = draw.choice(["Tom", "Lily", "Ben"]), draw.choice(["cat", "dog", "owl"])
    place = draw.choice(["garden", "house", "wood"])
    return (
        f"Once upon a time, {name} had a little {animal}. It was {n} days old.\n\nOne day the "
        f"{animal} ran to the {place}. {name} cried {draw.randrange(99)} tears, and then it came "
        f"home. They were happy."
    )


def stories(group: int = 50) -> Repository:
    """Like TinyStories: two files to train on, and a validation split with a story of theirs."""

    def table(*numbers: int) -> bytes:
        return parquet([{"text": story(n)} for n in numbers], group, TEXTS)

    files = {
        "README.md": b"---\nlicense: cdla-sharing-1.0\n---\n",
        "data/train-00000-of-00002-0a.parquet": table(*range(200)),
        "data/train-00001-of-00002-0b.parquet": table(*range(200, 300)),
        "data/validation-00000-of-00001-0c.parquet": table(*range(1000, 1029), 7),
    }
    return Repository(STORIES, files, COMMIT)


def wikitext() -> Repository:
    """Like WikiText: two configs of three splits, a line a row, some of them empty."""
    card, files = "---\nlicense: [cc-by-sa-3.0, gfdl]\nconfigs:\n", {}
    for config in WIKITEXTS:
        card += f"- config_name: {config}\n  data_files:\n"
        for split in ("test", "train", "validation"):
            card += f"  - split: {split}\n    path: {config}/{split}-*\n"
            lines = ["", f" = {config} = \n", "", f" A {split} of <unk> words . \n", None, " \n"]
            table = parquet([{"text": line} for line in lines * 20], 50, TEXTS)
            files[f"{config}/{split}-00000-of-00001.parquet"] = table
    return Repository(WIKITEXT, {"README.md": f"{card}---\n".encode(), **files}, COMMIT)


def json_lines() -> Repository:
    """Without a card and in JSON Lines; the hub has converted it, the split test in part."""
    lines = [{"text": story(n), "id": n, "url": f"http://site/{n // 2}"} for n in range(30)]
    file = "".join(json.dumps(line) + "\n" for line in lines).encode()
    table = parquet([line | {"id": str(line["id"])} for line in lines])
    places = "default/train", "default/partial-test", "own/train"
    converted = {f"{place}/0000.parquet": table for place in places}
    return Repository("me/lines", {"train.jsonl": file}, COMMIT, converted)


def shut(name: str, **how: Any) -> Repository:
    """Gated, or for those with a token; its card says nothing."""
    files = {"README.md": b"# A card\n", "train.parquet": parquet(rows(1, 2, 3))}
    return Repository(name, files, COMMIT, **how)


def chat() -> Repository:
    """Lists of messages."""
    message = pa.struct({"role": pa.string(), "content": pa.string()})
    columns = pa.schema({"messages": pa.list_(message)})
    table = parquet([{"messages": [{"role": "user", "content": "Hello"}]}] * 3, columns=columns)
    return Repository("me/chat", {"train.parquet": table}, COMMIT)


def broken() -> Repository:
    """Its card is not YAML."""
    files = {"README.md": b"---\nlicense: [mit\n---\n", "train.parquet": parquet(rows(1, 2, 3))}
    return Repository("me/broken", files, COMMIT)


def latin() -> Repository:
    """The text of its row 2 is not UTF-8; its card has a date."""
    texts = pa.array([b"one", b"two", b"caf\xe9", b"four"]).view(pa.string())
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), sink)
    card = b"---\nlicense: other\nlicense_name: 2024-01-01\n---\n"
    return Repository("me/latin", {"README.md": card, "train.parquet": sink.getvalue()}, COMMIT)


@contextmanager
def serving(
    *tables: list[dict[str, Any]] | mmap.mmap,
    others: Sequence[Repository] = (),
    fault: Literal["cut", "stall", "listing"] | None = None,
    group: int | None = None,
    outage: float = 0,
) -> Iterator[str]:
    """Serve HuggingFaceFW/fineweb with one parquet file a table; gives what HF_ENDPOINT is to be.

    A table may be such a file already, mapped. `others` are served beside it.

    `fault` befalls the last file whenever its first half is asked for (the footer, at its end, is
    well): `cut` closes the connection halfway through the answer, `stall` leaves it open. With
    `listing`, there is nothing but the README to be had. In an `outage` of so many seconds nothing
    is answered; it begins when the middle of the last file is first asked for. A row group has
    `group` rows.
    """
    names = [f"data/{CONFIG}/000_{n:05}.parquet" for n in range(len(tables))]
    contents = [parquet(t, group) if isinstance(t, list) else t for t in tables]
    files = {"README.md": README.encode(), **dict(zip(names, contents, strict=True))}
    repositories = {r.name: r for r in (Repository(fineweb.NAME, files), *others)}
    last = [*list(repositories.values())[-1].files.values()][-1]
    began: list[float] = []  # when the outage did

    class Handler(BaseHTTPRequestHandler):
        repository: Repository

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
                r"/datasets/(?P<name>[^/]+/[^/]+)(?:/(?P<what>resolve|revision|tree|paths-info|refs)"
                r"(?:/(?P<revision>refs%2F[^/]+|[^/]+))?(?:/(?P<path>.*))?)?",
                path,
            )
            if not found or (fault == "listing" and found["what"] != "resolve"):
                return self.refuse(404, "RepoNotFound")
            if found["name"] not in repositories:
                return self.refuse(401, "RepoNotFound")
            self.repository = repositories[found["name"]]
            shown = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if self.repository.token not in (None, shown):
                return self.refuse(401, "RepoNotFound")
            files = self.repository.at(found["revision"])
            if files is None:
                return self.refuse(404, "RevisionNotFound")
            match found["what"]:
                case "resolve":
                    if self.repository.gated:
                        return self.refuse(403 if shown else 401, "GatedRepo")
                    self.send_file(files, found["path"])
                case "tree":
                    parent = found["path"] or "."
                    below = "recursive=true" in self.path.lower()
                    paths = [p for p in tree(files) if is_in(p, parent, below)]
                    self.send_json([entry(files, p) for p in paths])
                case "paths-info":
                    body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                    there = [path for path in body["paths"] if path in tree(files)]
                    self.send_json([entry(files, path) for path in there])
                case "refs":
                    self.send_json(refs(self.repository))
                case _:
                    siblings = [{"rfilename": name} for name in files]
                    self.send_json(
                        {
                            "id": self.repository.name,
                            "sha": self.commit(files),
                            "siblings": siblings,
                        }
                    )

        def commit(self, files: dict[str, bytes | mmap.mmap]) -> str:
            one = self.repository
            return one.converted_revision if files is one.converted else one.revision

        def refuse(self, status: int, code: str) -> None:
            self.send(status, b"", {"X-Error-Code": code})

        def send_json(self, value: Any) -> None:
            self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def send_file(self, files: dict[str, bytes | mmap.mmap], name: str) -> None:
            if name not in files:
                return self.refuse(404, "EntryNotFound")
            content = files[name]
            headers = {
                "ETag": f'"{oid(content)}"',
                "X-Repo-Commit": self.commit(files),
                "Accept-Ranges": "bytes",
            }
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "bytes=0-"))
            assert asked
            start, end = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            broken = content is last and start < len(content) / 2
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

    oids: dict[int, str] = {}

    def oid(content: bytes | mmap.mmap) -> str:
        return oids.get(id(content)) or oids.setdefault(id(content), sha1(content).hexdigest())

    def entry(files: dict[str, bytes | mmap.mmap], path: str) -> dict[str, Any]:
        if path not in files:
            return {"type": "directory", "path": path, "size": 0, "oid": ""}
        content = files[path]
        return {"type": "file", "path": path, "size": len(content), "oid": oid(content)}

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def tree(files: dict[str, bytes | mmap.mmap]) -> list[str]:
    """All files, and the folders that they are in."""
    folders = {str(p) for name in files for p in PurePosixPath(name).parents} - {"."}
    return [*sorted(folders), *files]


def is_in(path: str, folder: str, below: bool) -> bool:
    """Whether it is in that folder or, if `below` says so, in one that is in there."""
    parents = [str(parent) for parent in PurePosixPath(path).parents]
    return folder in (parents if below else parents[:1])


def refs(repository: Repository) -> dict[str, Any]:
    main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repository.revision}
    commit = repository.converted_revision
    made = {"name": "parquet", "ref": "refs/convert/parquet", "targetCommit": commit}
    return {"branches": [main], "tags": [], "converts": [made] if repository.converted else []}


def mapped(path: str) -> mmap.mmap:
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


if __name__ == "__main__":
    with serving(*map(mapped, sys.argv[1:])) as endpoint:
        print(endpoint, flush=True)
        signal.pause()
