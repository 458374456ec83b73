"""Documents: from FineWeb, from the offline slice of Wikipedia, or from your own files."""

import bz2
import hashlib
import json
import logging
import os
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator
from glob import glob
from importlib import metadata
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import RLock
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
PATIENCE = 50  # seconds without a document after which the hub counts as gone


def fineweb(documents: int, config: str, revision: str) -> Iterator[Document]:
    """The first `documents` rows of FineWeb's `config` at `revision`, in their order.

    Raises UserError if the hub cannot be reached, breaks off or stalls, lacks the config or the
    revision, or has fewer rows. Nothing ever stands in for what was asked for.
    """
    # In a process of its own: some waits inside `datasets` have no limit, and Arrow's threads may
    # abort the process that leaves a stream before its end (apache/arrow#45214).
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    with TemporaryDirectory() as cache:
        arguments = (sender, documents, config, revision, cache)
        process = context.Process(target=_send_fineweb, args=arguments, daemon=True)
        process.start()
        sender.close()
        try:
            for n in range(documents + 1):
                if not receiver.poll(PATIENCE):
                    raise _no_hub(f"nothing came for {PATIENCE} seconds")
                message = receiver.recv()
                if isinstance(message, UserError):
                    raise message
                if message:
                    yield message
                elif n < documents:
                    raise UserError(
                        f"data.documents is {documents}, but config {config} of {FINEWEB} has only "
                        f"{n}; lower it, or choose a larger data.config"
                    )
        except (EOFError, OSError):
            raise _no_hub("the process that reads it was killed") from None
        finally:
            process.kill()
            process.join()


def _send_fineweb(
    sender: Connection, documents: int, config: str, revision: str, cache: str
) -> None:
    """Send each Document, then None; or the UserError that ended it."""
    try:
        for n, row in enumerate(_fineweb_rows(documents, config, revision, cache)):
            if not isinstance(row["text"], str):
                raise UserError(f"row {n} of config {config} of {FINEWEB} has no text")
            id = row["id"] or f"fineweb:{n}"
            sender.send(Document(row["text"], id, row["url"] or id))
        sender.send(None)
    except UserError as error:
        sender.send(error)
    except Exception as error:
        sender.send(_no_hub(_cause(error)))
    finally:
        os._exit(0)  # without the clean-up in which Arrow's threads may abort


def _fineweb_rows(
    documents: int, config: str, revision: str, cache: str
) -> Iterator[dict[str, str | None]]:
    # Slow to import, and it is then that they read HF_ENDPOINT and the like.
    import datasets
    import huggingface_hub as hub
    import tqdm

    datasets.disable_progress_bars()
    tqdm.tqdm.set_lock(RLock())  # not its own, a semaphore that would outlive a killed process
    for library in datasets, hub:  # what they log may hold a signed URL; we say the one line
        library.utils.logging.set_verbosity(logging.CRITICAL)
    # The hub's client makes six attempts at each request, within 23 seconds and without our
    # asking. `datasets` would make twenty times six.
    for setting in "STREAMING_OPEN", "STREAMING_READ":
        setattr(datasets.config, f"{setting}_MAX_RETRIES", 1)
        setattr(datasets.config, f"{setting}_RETRY_INTERVAL", 0)
    try:
        # A single attempt, so that a hub out of reach shows at once.
        readme = hub.hf_hub_url(FINEWEB, "README.md", repo_type="dataset", revision=revision)
        hub.get_hf_file_metadata(readme)
        # Where the hub fails it, `datasets` takes what it finds in its cache, of any revision, and
        # before it asks the hub, a local folder of that name: hence an empty cache and hf://.
        stream = datasets.load_dataset(
            f"hf://datasets/{FINEWEB}",
            name=config,
            revision=revision,
            split="train",
            streaming=True,
            cache_dir=cache,
        )
    except hub.errors.RevisionNotFoundError:
        raise UserError(f"data.revision is {revision!r}, which {FINEWEB} does not have") from None
    except ValueError as error:
        if "BuilderConfig" not in str(error):
            raise
        raise UserError(
            f"data.config is {config!r}, which {FINEWEB} does not have at {revision}"
        ) from None
    yield from stream.select_columns(["text", "id", "url"]).take(documents)


def _no_hub(why: str) -> UserError:
    from huggingface_hub.constants import ENDPOINT

    return UserError(
        f"cannot read {FINEWEB} from {_public(ENDPOINT)}: {why}; "
        "without the hub, `dvc exp run -S data.source=wikipedia` runs offline"
    )


def _cause(error: BaseException) -> str:
    """What is at the bottom of `error`, in one line that anyone may see."""
    while error.__cause__:
        error = error.__cause__
    return _public(f"{type(error).__name__}: {error}".split("\n")[0]).rstrip(" .")


def _public(text: str) -> str:
    """`text` without the credentials that a URL or a header in it may hold."""
    text = re.sub(r"(?<=://)[^/\s@]*@", "", text)  # user and password
    text = re.sub(r"(://[^\s?'\"]*)\?[^\s'\"]*", r"\1", text)  # a signature in the query
    return re.sub(r"(hf_|Bearer )[^\s'\"]+", r"\1***", text)


# --- your own files ---

BLOCK = 1 << 20  # bytes read at a time


def files(pattern: str, text_column: str, separator: str | None) -> Iterator[Document]:
    """The documents of the files that the glob `pattern` matches (`**`: folders at any depth).

    Files come in the order of their names. Their suffix tells the format:
    .parquet  a document a row, in the string column `text_column`
    .jsonl    a document a line, a JSON object with the key `text_column`
    .txt      documents parted by `separator`, without the white space around them; null: the
              whole file is one
    Raises UserError, naming the file and the row, line, document or byte, for whatever is not a
    text in UTF-8, and for an empty one.
    """
    paths = [path for path in map(Path, sorted(glob(pattern, recursive=True))) if path.is_file()]
    if not paths:
        raise UserError(f"data.files is {pattern!r}, which matches no file")
    readers: dict[str, tuple[str, Callable[[Path], Iterable[tuple[int, Any]]]]] = {
        ".parquet": ("row", lambda path: _rows(path, text_column)),
        ".jsonl": ("line", lambda path: _lines(path, text_column)),
        ".txt": ("document", lambda path: enumerate(map(str.strip, _split(path, separator)), 1)),
    }
    for path in paths:
        if path.suffix not in readers:
            raise UserError(
                f"data.files is {pattern!r}, which matches {path}: narrow it to files that end in "
                ".parquet, .jsonl or .txt"
            )
    n = 0
    for path in paths:
        unit, reader = readers[path.suffix]
        for n, text in reader(path):
            where = f"{path}, {unit} {n}"
            if not isinstance(text, str):
                what = "null" if text is None else type(text).__name__
                raise UserError(f"{where}: {text_column!r} is {what}, not a string")
            if not text or text.isspace():
                raise UserError(f"{where}: the text is empty; take it out")
            id = f"{path.as_posix()}:{n}"
            yield Document(text, id, id)
    if not n:
        raise UserError(f"data.files is {pattern!r}: no document in what it matches")


def _rows(path: Path, column: str) -> Iterator[tuple[int, Any]]:
    """(number, value) of each row of a parquet file."""
    values = (value for (batch,) in _parquet(path, [column]) for value in batch)
    for n, value in enumerate(values, 1):
        try:
            yield n, value.as_py()
        except UnicodeDecodeError as error:
            raise UserError(f"{path}, row {n}: not UTF-8 at its byte {error.start}") from None


def _lines(path: Path, key: str) -> Iterator[tuple[int, Any]]:
    """(number, value of `key`) of each line of a JSON Lines file, blank ones left out."""
    for n, line in enumerate(_split(path, "\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            why = str(error).replace("line 1 ", "")
            raise UserError(f"{path}, line {n}: not JSON: {why}") from None
        if not isinstance(value, dict) or key not in value:
            has = ", ".join(value) if isinstance(value, dict) else "none: it is no object"
            raise UserError(f"{path}, line {n}: no key {key!r} (data.text_column); it has {has}")
        yield n, value[key]


def _split(path: Path, separator: str | None) -> Iterator[str]:
    """The texts between the separators of a file; white space after the last is none."""
    cut = (separator or "").encode()
    try:
        with path.open("rb") as file:
            start = first = len(BOM_UTF8) if file.read(len(BOM_UTF8)) == BOM_UTF8 else 0
            file.seek(start)
            rest = b""
            # Never less than what is left over, so that a long text is not searched block by block.
            while cut and (block := file.read(max(BLOCK, len(rest)))):
                *parts, rest = (rest + block).split(cut)
                for part in parts:
                    yield part.decode()
                    start += len(part) + len(cut)
            part = rest + file.read()
            if start == first or part.strip():
                yield part.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text at byte {start + error.start}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def _parquet(path: Path, columns: list[str]) -> Iterator[list[pa.Array]]:
    """Some string columns of a parquet file, a batch at a time."""
    try:
        # pre_buffer, by default on, takes memory by the size of the file.
        with pq.ParquetFile(
            path, pre_buffer=False, buffer_size=BLOCK, page_checksum_verification=True
        ) as file:
            types = dict(zip(file.schema_arrow.names, file.schema_arrow.types, strict=True))
            for column in columns:
                if column not in types:
                    raise UserError(f"{path}: no column {column!r}; it has {', '.join(types)}")
                if str(types[column]) not in ("string", "large_string", "string_view"):
                    raise UserError(f"{path}: column {column!r} is {types[column]}, not string")
            for batch in file.iter_batches(1000, columns=columns):
                yield [batch.column(column) for column in columns]
    except (pa.ArrowException, OSError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read as parquet; is it whole? {why}") from None


# --- the corpus as a file ---

GROUP = 1000  # documents in a row group, the part of a file that is in memory
GROUP_BYTES = 64 << 20  # or fewer, if they are long


def write(documents: Iterable[Document], path: Path) -> int:
    """Write the columns text, id and source to a parquet file, and count the documents.

    The same documents give the same bytes. The file appears whole or, on an error, not at all.
    Raises UserError if there is no document, or one that cannot be written in UTF-8.
    """
    written = 0
    with replacing(path) as partial:
        schema = pa.schema([(name, pa.string()) for name in Document._fields])
        with pq.ParquetWriter(partial, schema, write_page_checksum=True) as writer:
            for group in _groups(documents):
                columns = [list(column) for column in zip(*group, strict=True)]
                writer.write_table(pa.table(columns, schema=schema))
                written += len(group)
        if not written:
            raise UserError("empty corpus: section data of params.yaml yields no document")
    return written


def _groups(documents: Iterable[Document]) -> Iterator[list[Document]]:
    group: list[Document] = []
    size = 0
    for document in documents:
        try:
            size += sum(len(field.encode()) for field in document)
        except UnicodeEncodeError as error:
            raise UserError(
                f"document {document.id!r}: character {error.start} is half a surrogate pair, "
                "which UTF-8 cannot hold"
            ) from None
        group.append(document)
        if len(group) == GROUP or size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def read(path: Path) -> Iterator[Document]:
    """The documents that `write` wrote to `path`, in constant memory.

    Raises UserError, naming the stage that makes the file, if it is missing or damaged.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file; `dvc repro download_fineweb` makes it")
    try:
        for columns in _parquet(path, list(Document._fields)):
            yield from map(Document, *(column.to_pylist() for column in columns))
    except UserError as error:
        raise UserError(f"{error}; `dvc repro --force download_fineweb` makes it anew") from None
