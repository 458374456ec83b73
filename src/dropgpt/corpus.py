"""Documents: from FineWeb, from the offline slice of Wikipedia, or from your own files."""

import bz2
import codecs
import hashlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from glob import glob
from importlib import metadata
from itertools import count, islice
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from dropgpt import params
from dropgpt.errors import UserError
from dropgpt.files import replacing


class Document(NamedTuple):
    """A text, a name that no other document has, and the whole that it is part of."""

    text: str
    id: str
    source: str  # documents of one source are never parted into training and held-out ones


def documents(data: params.Data) -> Iterator[Document]:
    """The corpus that section `data` of params.yaml asks for, one document at a time."""
    match data.source:
        case "wikipedia":
            return wikipedia()
        case "fineweb":
            return fineweb(data.documents, data.config, data.revision)
        case "files":
            return files(data.files, data.text_column, data.separator)


# --- Wikipedia, offline: gensim carries 106 articles as test data (CC BY-SA) ---

WIKIPEDIA_FILE = (
    "test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
)
WIKIPEDIA_SHA256 = "a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d"
SHORTEST_SECTION = 200  # characters; below are stubs such as "See also"

HEADING = re.compile(r"^==.+==[ \t]*$", re.MULTILINE)
LIST_ITEM = ("*", "#", ":", ";")
LEFTOVERS = [  # markup that gensim's filter_wiki lets through, and what a reader would see for it
    # pictures: file name, description for the blind, size, position
    (re.compile(r"^(File|Image):[^|\n]*\|?|^[^|\n]*\.(jpe?g|png|svg|gif)\|", re.I | re.M), ""),
    (re.compile(r"\|?\balt=[^|\n]*\|?|\|?\b\d+(x\d+)?px|\|(thumb)?$", re.M), ""),
    # tables: the mark of a caption; pages: switches such as __TOC__
    (re.compile(r"^\+ ?|__[A-Z]+__", re.M), ""),
    # '''bold''' and ''italics'', but not the apostrophe of ''Time'''s
    (re.compile(r"(?<=\w)''(?='s\b)|'{2,}"), ""),
    # brackets around templates, which are gone: "Achilles (; , Akhilleus)", "Alabama ()"
    (re.compile(r"\(\s*(?:[,;]\s*)+"), "("),
    (re.compile(r" ?\(\s*\)"), ""),
]


def wikipedia() -> Iterator[Document]:
    """The sections of the articles in gensim's slice of Wikipedia: 1,561 documents.

    Headings and list items are left out, and so is a section of less than 200 characters.
    Raises UserError if the file is not the one that these numbers belong to.
    """
    from gensim.corpora.wikicorpus import extract_pages, filter_wiki

    path = _wikipedia_path()
    mend = f"run `pip install --force-reinstall gensim=={metadata.version('gensim')}`"
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; {mend}") from None
    if found != WIKIPEDIA_SHA256:
        raise UserError(f"{path}: sha256 is {found}, not {WIKIPEDIA_SHA256}; {mend}")
    with bz2.open(path) as dump:
        for title, wikitext, _ in extract_pages(dump):  # a redirect is one list item, so no text
            texts = map(_prose, HEADING.split(filter_wiki(wikitext)))
            sections = (text for text in texts if len(text) >= SHORTEST_SECTION)
            for n, text in enumerate(sections, 1):
                yield Document(text, f"{title}#{n}", title)


def _wikipedia_path() -> Path:
    import gensim

    return Path(gensim.__file__).parent / WIKIPEDIA_FILE


def _prose(section: str) -> str:
    """The paragraphs of a section as filter_wiki leaves it, one a line."""
    for pattern, replacement in LEFTOVERS:
        section = pattern.sub(replacement, section)
    lines = (" ".join(line.split()) for line in section.split("\n"))
    return "\n".join(
        line for line in lines if not line.startswith(LIST_ITEM) and re.search(r"\w", line)
    )


# --- FineWeb, streamed from the Hugging Face hub ---

FINEWEB = "HuggingFaceFW/fineweb"
PATIENCE = 50  # seconds without a row after which the hub counts as gone


def fineweb(documents: int, config: str, revision: str) -> Iterator[Document]:
    """The first `documents` rows of FineWeb's `config` at `revision`, in their order.

    Raises UserError if the hub cannot be reached, breaks off or stalls, lacks the config or the
    revision, or has fewer rows. Nothing ever stands in for what was asked for.
    """
    # Slow to import, and it is then that they read HF_ENDPOINT and the like.
    import datasets  # noqa: F401
    import huggingface_hub as hub

    # A thread, since some of the waits inside `datasets` have no limit. A daemon: it may not keep
    # the process from leaving. The queue is short, so that memory does not grow with the corpus.
    rows: Queue[dict[str, Any] | Exception | None] = Queue(maxsize=1000)
    Thread(target=_fetch, args=(rows, documents, config, revision), daemon=True).start()
    for n in count():
        try:
            row = rows.get(timeout=PATIENCE)
        except Empty:
            raise _no_hub(f"nothing came for {PATIENCE} seconds") from None
        match row:
            case None if n < documents:
                raise UserError(
                    f"data.documents is {documents}, but config {config} of {FINEWEB} ends after "
                    f"{n}; lower it, or choose a larger data.config"
                )
            case None:
                return
            case hub.errors.RevisionNotFoundError():
                raise UserError(f"data.revision is {revision!r}, which {FINEWEB} does not have")
            case ValueError() if "BuilderConfig" in str(row):
                raise UserError(
                    f"data.config is {config!r}, which {FINEWEB} does not have at {revision}"
                )
            case Exception():
                raise _no_hub(_cause(row))
        if not isinstance(row["text"], str):
            raise UserError(f"{FINEWEB}, config {config}, row {n}: the text is null")
        id = row["id"] or f"fineweb:{n}"
        yield Document(row["text"], id, row["url"] or id)


def _fetch(
    rows: Queue[dict[str, Any] | Exception | None], documents: int, config: str, revision: str
) -> None:
    """Put up to `documents` rows into the queue, then None; or the exception that ended it."""
    import datasets
    import huggingface_hub as hub

    datasets.disable_progress_bars()
    for library in datasets, hub:  # what they log may hold a signed URL; we say the one line
        library.utils.logging.set_verbosity(logging.CRITICAL)
    # The hub's client makes six attempts of its own at each request, within 23 seconds; `datasets`
    # would make twenty times six.
    datasets.config.STREAMING_OPEN_MAX_RETRIES = datasets.config.STREAMING_READ_MAX_RETRIES = 1
    datasets.config.STREAMING_OPEN_RETRY_INTERVAL = datasets.config.STREAMING_READ_RETRY_INTERVAL = 0
    try:
        # One attempt, so that a hub out of reach shows at once.
        hub.get_hf_file_metadata(
            hub.hf_hub_url(FINEWEB, "README.md", repo_type="dataset", revision=revision)
        )
        # Where the hub fails it, `datasets` silently takes whatever revision is in its cache, and
        # a local folder of that name before either: hence the empty cache and the hf:// path.
        with tempfile.TemporaryDirectory() as empty:
            stream = datasets.load_dataset(
                f"hf://datasets/{FINEWEB}",
                name=config,
                revision=revision,
                split="train",
                streaming=True,
                cache_dir=empty,
            )
            for row in stream.select_columns(["text", "id", "url"]).take(documents):
                rows.put(row)
        rows.put(None)
    except Exception as error:
        rows.put(error)


def _no_hub(why: str) -> UserError:
    import huggingface_hub as hub

    return UserError(
        f"cannot read {FINEWEB} from {_public(hub.constants.ENDPOINT)}: {why}; "
        "without the hub, `dvc exp run -S data.source=wikipedia` runs offline"
    )


def _cause(error: BaseException) -> str:
    """What is at the bottom of `error`, in one line that anyone may see."""
    while error.__cause__:
        error = error.__cause__
    lines = _public(str(error)).split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"{type(error).__name__}: {last}"


def _public(text: str) -> str:
    """`text` without the credentials that a URL or a header in it may hold."""
    text = re.sub(r"(?<=://)[^/\s@]*@", "", text)  # user and password
    text = re.sub(r"(://[^\s?'\"]*)\?[^\s'\"]*", r"\1", text)  # a signature in the query
    return re.sub(r"(hf_|Bearer )[^\s'\"]+", r"\1***", text)


# --- your own files ---

BLOCK = 1 << 20  # bytes read at a time


def files(pattern: str, text_column: str, separator: str | None) -> Iterator[Document]:
    """The documents of the files that the glob `pattern` matches (`**`: folders at any depth).

    Files come in the order of their names. Three formats, told by the suffix:
    .parquet  one document a row, in the column `text_column`
    .jsonl    one document a line, a JSON object with the key `text_column`
    .txt      documents parted by `separator` (null: the file is one), without the white space
              around them
    Raises UserError, naming the file and the row, line or document, for anything that is not a
    text in UTF-8, an empty document included.
    """
    paths = [path for path in map(Path, sorted(glob(pattern, recursive=True))) if path.is_file()]
    if not paths:
        raise UserError(f"data.files is {pattern!r}, which matches no file")
    readers = {
        ".parquet": ("row", lambda path: _rows(path, text_column)),
        ".jsonl": ("line", lambda path: _lines(path, text_column)),
        ".txt": ("document", lambda path: _parts(path, separator)),
    }
    for path in paths:
        if path.suffix not in readers:
            raise UserError(
                f"data.files is {pattern!r}, which matches {path}: choose only files that end in "
                ".parquet, .jsonl or .txt"
            )
    n = 0
    for path in paths:
        unit, reader = readers[path.suffix]
        try:
            for n, text in reader(path):
                if not isinstance(text, str):
                    raise UserError(
                        f"{path}, {unit} {n}: {text_column} is {type(text).__name__}, not a string"
                    )
                if not text or text.isspace():
                    raise UserError(f"{path}, {unit} {n}: this document is empty; take it out")
                id = f"{path.as_posix()}:{n}"
                yield Document(text, id, id)
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not n:
        raise UserError(f"data.files is {pattern!r}, which matches files without any document")


def _rows(path: Path, column: str) -> Iterator[tuple[int, Any]]:
    """(number, value) of each row of a parquet file."""
    n = 0
    for (values,) in _parquet(path, [column]):
        for value in values:
            n += 1
            try:
                yield n, value.as_py()
            except UnicodeDecodeError as error:
                raise UserError(f"{path}, row {n}: not UTF-8 at byte {error.start}") from None


def _lines(path: Path, key: str) -> Iterator[tuple[int, Any]]:
    """(line number, value of `key`) of each line of a JSON Lines file that is not blank."""
    for n, line in enumerate(_split(path, "\n"), 1):
        if line.isspace() or not line:
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            why = str(error).replace("line 1 ", "")
            raise UserError(f"{path}, line {n}: not JSON: {why}") from None
        if not isinstance(value, dict):
            raise UserError(f"{path}, line {n}: not a JSON object")
        if key not in value:
            has = ", ".join(value) or "none"
            raise UserError(f"{path}, line {n}: no key {key!r} (data.text_column); it has: {has}")
        yield n, value[key]


def _parts(path: Path, separator: str | None) -> Iterator[tuple[int, str]]:
    """(number, text) of each document of a text file; after the last separator may be nothing."""
    blank = 0
    for n, part in enumerate(_split(path, separator), 1):
        ...
