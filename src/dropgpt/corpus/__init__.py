"""The corpus: documents from the hub, from the offline Wikipedia slice, or from your files."""

import hashlib
from collections.abc import Iterator
from typing import Any

from dropgpt import params
from dropgpt.corpus import fineweb, hub, own_files, wikipedia
from dropgpt.corpus.document import Document
from dropgpt.corpus.hub import Dataset
from dropgpt.errors import counted, warn


def documents(data: params.Data) -> Iterator[Document]:
    """The corpus that section `data` of params.yaml asks for, one document at a time.

    Less what `held_out` gives. Not for all of a data set on the hub: that is `hub_shards`.
    """
    match data.source:
        case "wikipedia":
            return wikipedia.documents()
        case "fineweb" | "hub":
            assert data.documents is not None  # else it is read in shards
            return hub.documents(splits(data)[0], data.documents)
        case "files":
            return own(data, data.files)


def own(data: params.Data, files: str, key: str = "data.files") -> Iterator[Document]:
    """The documents of the user's own `files`, which `key` of params.yaml names, as `data` says."""
    found = own_files.documents(files, data.text_column, data.separator, key)
    return each_once(found, files) if data.deduplicate else found


def held_out(data: params.Data) -> Iterator[Document]:
    """The documents of data.held_out_split, all of them; none where there is no such split."""
    for dataset in splits(data)[1:]:
        yield from hub.documents(dataset, None)


def splits(data: params.Data) -> list[Dataset]:
    """Of a data set on the hub: the split to train on and, if it is asked for, the held-out one."""
    if data.source == "fineweb":
        return [fineweb.dataset(data.config, data.revision)]
    if data.source != "hub":
        return []
    assert data.dataset  # params.py has seen to it
    return [
        Dataset(
            data.dataset,
            data.config,
            data.revision,
            split,
            data.text_column,
            f"{data.dataset}/{split}",
        )
        for split in (data.split, data.held_out_split)
        if split
    ]


def settings(data: params.Data) -> dict[str, Any]:
    """What of the section travels with the tokens; the source for the sake of its licence."""
    keys = {"source"}
    if data.in_shards:
        keys |= {"documents", "config", "revision"}
    if data.source == "hub":
        keys |= {"dataset", "config", "revision", "split", "held_out_split", "text_column"}
    values = data.model_dump(include=keys)
    if data.source == "fineweb" and data.in_shards:  # which of it, where params.yaml leaves it open
        values |= {"config": splits(data)[0].config, "revision": splits(data)[0].revision}
    return values


def about(data: params.Data) -> dict[str, Any]:
    """What travels with the documents: what they were made from, and of a data set on the hub what
    its card says of its licence, which of the other sources is known beforehand.
    """
    card = {"card": hub.card(splits(data))} if data.source == "hub" else {}
    return {"data": settings(data)} | card


def each_once(
    documents: Iterator[Document], files: str, remedy: str = "data.deduplicate: false keeps them"
) -> Iterator[Document]:
    """Without those that are word for word an earlier one, of which a line tells.

    Else a copy of what is held out may stand in the training part, and count as another document.
    """
    seen: set[bytes] = set()
    copies = 0
    for document in documents:
        digest = hashlib.sha256(document.text.encode()).digest()
        if digest in seen:
            copies += 1
        else:
            seen.add(digest)
            yield document
    if copies:
        found = counted(copies, "document")
        warn(f"left out as copies of earlier documents of {files}: {found}; {remedy}")
