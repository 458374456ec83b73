"""A document, and a corpus of them as a parquet file."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from dropgpt.errors import UserError, of_machine
from dropgpt.machine.files import replacing

BLOCK = 1 << 20  # bytes read at a time
SHA256 = "dropgpt.sha256"  # the key in the file's metadata that holds its documents' checksum
ABOUT = "dropgpt.about"  # and the one that holds, as JSON, what else is known of them

GROUP = 1000  # documents in a row group, the part of a file that is in memory
GROUP_BYTES = 64 << 20  # or fewer, if they are long
LONGEST = (2 << 30) - 2 * GROUP_BYTES  # bytes of a document: Arrow's limit, less what it is beside


class Document(NamedTuple):
    """A text, a name that no other document has, and the whole that it is part of."""

    text: str
    id: str
    source: str  # documents of one source that follow each other are never parted


def write(
    documents: Iterable[Document],
    path: Path,
    held_out: Iterable[Document] = (),
    about: dict[str, Any] | None = None,
) -> int:
    """Write the columns text, id and source to a parquet file, and count the documents.

    Last stand those that are `held_out`; `about` is what else is known of all, for `about`.
    The same documents give the same bytes. The file appears whole or, on an error, not at all.
    Raises UserError if there is no document, or one that cannot be written in UTF-8.
    """
    written = 0
    with replacing(path) as partial:
        schema = pa.schema([(name, pa.string()) for name in Document._fields])
        digest = hashlib.sha256()
        with pq.ParquetWriter(partial, schema, write_page_checksum=True) as writer:
            for part in documents, held_out:
                last = 0
                for group in _groups(part):
                    columns = [list(column) for column in zip(*group, strict=True)]
                    writer.write_table(pa.table(columns, schema=schema))
                    last += len(group)
                    for document in group:
                        _add(digest, document)
                written += last
            known = (about or {}) | ({"held_out": last} if last else {})
            if known:
                writer.add_key_value_metadata({ABOUT: json.dumps(known)})
                digest.update(json.dumps(known).encode())
            writer.add_key_value_metadata({SHA256: digest.hexdigest()})
        if not written:
            raise UserError("empty corpus: section data of params.yaml yields no document")
    return written


def about(path: Path) -> dict[str, Any]:
    """What is known of the documents at `path`; empty where there is no such thing or no file.

    held_out  how many of the last are held out; in a list of shards, how many shards
    data      what of section data says where they come from
    card      what the card of a data set on the hub says of its licence
    """
    try:
        known = (pq.read_metadata(path).metadata or {}).get(ABOUT.encode(), b"{}")
        found = json.loads(known)
    except (pa.ArrowException, OSError, ValueError) as error:
        if of_machine(error):
            raise
        return {}  # damage, of which `read` tells
    return found if isinstance(found, dict) else {}


def _groups(documents: Iterable[Document]) -> Iterator[list[Document]]:
    group: list[Document] = []
    total = 0
    for document in documents:
        length = size(document)
        if length > LONGEST:
            raise UserError(
                f"document {document.id!r}: {length:,} bytes, more than the {LONGEST:,} that a "
                "document may have; part it"
            )
        total += length
        group.append(document)
        if len(group) == GROUP or total >= GROUP_BYTES:
            yield group
            group, total = [], 0
    if group:
        yield group


def size(document: Document) -> int:
    """Bytes of its fields in UTF-8. Raises UserError where UTF-8 cannot hold one."""
    try:
        return sum(len(field.encode()) for field in document)
    except UnicodeEncodeError as error:
        raise UserError(
            f"document {document.id!r}: character {error.start} is half a surrogate pair, "
            "which UTF-8 cannot hold"
        ) from None


def read(path: Path) -> Iterator[Document]:
    """The documents that `write` wrote to `path`, in constant memory.

    Raises UserError, naming the stage that makes the file, if it is missing or damaged. Part of
    the damage shows only after the last document, so let nothing of them stand before that.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file; `dvc repro download_fineweb` makes it")
    try:
        digest = hashlib.sha256()
        for columns in string_columns(path, list(Document._fields)):
            for document in map(Document, *(column.to_pylist() for column in columns)):
                _add(digest, document)
                yield document
        metadata = pq.read_metadata(path).metadata or {}
        digest.update(metadata.get(ABOUT.encode(), b""))
        if metadata.get(SHA256.encode()) != digest.hexdigest().encode():
            raise UserError(f"{path}: its documents are not those that were written")
    except UserError as error:
        raise UserError(
            f"{error}; remove the file, and `dvc checkout download_fineweb` brings it back"
        ) from None


def _add(digest: Any, document: Document) -> None:
    fields = [field.encode() for field in document]
    digest.update(b"".join(len(field).to_bytes(8) + field for field in fields))


def string_columns(
    path: Path, columns: list[str], file: Any = None, hint: str = ""
) -> Iterator[list[pa.Array]]:
    """Some string columns of a parquet file, a batch at a time; they may be dictionary-encoded.

    `file` is what to read where that is not the file at `path`. `hint` follows the name of a
    column that is not there.
    """
    try:
        # pre_buffer, by default on, takes memory by the size of the file.
        with pq.ParquetFile(
            file or path, pre_buffer=False, buffer_size=BLOCK, page_checksum_verification=True
        ) as table:
            for column in columns:
                _check_column(path, table.schema_arrow, column, hint)
            for batch in table.iter_batches(1000, columns=columns):
                yield [batch.column(column) for column in columns]
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if of_machine(error):
            raise
        why = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read as parquet; is it whole? {why}") from None


def _check_column(path: Path, schema: pa.Schema, column: str, hint: str) -> None:
    if column not in schema.names:
        raise UserError(f"{path}: no column {column!r}{hint}; it has {', '.join(schema.names)}")
    if schema.names.count(column) > 1:
        raise UserError(f"{path}: two columns {column!r}{hint}; rename one")
    kind = schema.field(column).type
    if not is_string(kind):
        raise UserError(f"{path}: column {column!r} is {kind}, not string")


def is_string(kind: pa.DataType) -> bool:
    """Whether a column of that type holds strings, be it dictionary-encoded."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return str(kind) in ("string", "large_string", "string_view")
