"""A data set on the Hugging Face hub: its rows as documents, streamed, and its licence."""

import json
import logging
import re
from collections.abc import Iterable, Iterator
from threading import RLock
from typing import Any, Literal, NamedTuple

from dropgpt.corpus.document import Document
from dropgpt.corpus.hub_process import from_process, public, quiet
from dropgpt.errors import UserError, counted, warn

# Where the hub has converted a data set to parquet, and what its files are called there.
CONVERTED_BRANCH = "refs/convert/parquet"
CONVERTED = re.compile(r"(?P<config>[^/]+)/(?P<split>[^/]+)/\d{4}\.parquet")


class Dataset(NamedTuple):
    """A split of a data set on the hub, and the column that holds its texts."""

    name: str
    config: str | None  # None: the only one
    revision: str | None  # the commit; None is refused with the newest
    split: str
    text_column: str
    row: str  # what a row without an id is called, with its number behind it
    keeps_empty: bool = False  # else a row with an empty text is no document

    def columns(self, there: Iterable[str]) -> list[str]:
        """Those to read of the columns that are `there`. Raises UserError without the texts'."""
        there = list(there)
        if self.text_column not in there:
            raise UserError(
                f"data.text_column is {self.text_column!r}, which {self.name} does not have; "
                f"it has {', '.join(there)}"
            )
        return list(dict.fromkeys([self.text_column, *(c for c in ("id", "url") if c in there)]))

    def document(self, row: dict[str, Any], n: int) -> Document | None:
        """Row `n` of the split, counted from 0; None where its text is empty.

        Named by its column id, its source by its column url, as far as there are such.
        """
        text = row.get(self.text_column)  # JSON may lack it in a later row
        if not self.keeps_empty and (text is None or (isinstance(text, str) and not text.strip())):
            return None
        if not isinstance(text, str):
            raise self.no_text(f", row {n}", "null" if text is None else type(text).__name__)
        id = _name(row.get("id")) or f"{self.row}:{n}"
        return Document(text, id, _name(row.get("url")) or id)

    def no_text(self, where: str, kind: str) -> UserError:
        """That the column holds something else, of that kind: a list of messages, say."""
        return UserError(
            f"{self.name}{where}: {self.text_column!r} is {kind}, and a document is one text, a "
            "string; name another data.text_column, or write each row (its messages, say) as one "
            "text into a file in corpora/, for data.source: files"
        )


def _name(value: Any) -> str:
    return str(value) if isinstance(value, str | int) else ""


def documents(dataset: Dataset, number: int | None) -> Iterator[Document]:
    """The first `number` documents of `dataset`, in the order of its rows; None: all.

    Raises UserError if the hub cannot be reached, breaks off or stalls, lacks what was asked for or
    refuses it, or has fewer documents. Nothing ever stands in for what was asked for.
    """
    n = 0
    for document in from_process(dataset.name, _documents, dataset, number):
        yield document
        n += 1
    if number is None and not n:
        raise UserError(f"split {dataset.split} of {dataset.name} has no document")
    if number is not None and n < number:
        where, more = f"split {dataset.split}", "a larger one"
        if dataset.config:
            where, more = f"config {dataset.config}", "a larger data.config"
        raise UserError(
            f"data.documents is {number}, but {where} of {dataset.name} has only {n}; lower "
            f"it, or choose {more}"
        )


def _documents(dataset: Dataset, number: int | None, cache: str) -> Iterator[Document]:
    stream = builder(dataset, cache).as_streaming_dataset(dataset.split)
    if stream.column_names:  # of JSON they are not known before the first row
        stream = stream.select_columns(dataset.columns(stream.column_names))
    given = empty = 0
    for n, row in enumerate(stream):
        if not n:
            dataset.columns(row)
        if document := dataset.document(row, n):
            yield document
            given += 1
            if given == number:
                break
        else:
            empty += 1
    if empty:
        warn(f"left out as empty: {counted(empty, 'row')} of split {dataset.split}")


def card(splits: list[Dataset]) -> dict[str, Any]:
    """What the data set's card says of its licence: license, license_name and license_link.

    Only what it does say; nothing where there is no card at this commit.
    `splits` are the data set's that are to be read. Raises UserError as `documents` does.
    """
    (found,) = from_process(splits[0].name, _card, splits)
    assert isinstance(found, dict)
    return found


def _card(splits: list[Dataset], cache: str) -> Iterator[dict[str, Any]]:
    quiet()
    dataset, *later = splits
    said = _read_card(dataset, cache) if _has_card(dataset) else {}
    for split in later:  # which would be found missing when the first one has been read
        builder(split, cache)
    found = {key: said[key] for key in ("license", "license_name", "license_link") if said.get(key)}
    yield json.loads(json.dumps(found, default=str))  # YAML has dates, JSON has none


def _read_card(dataset: Dataset, cache: str) -> dict[str, Any]:
    import huggingface_hub as hub

    path = hub.hf_hub_download(
        dataset.name,
        "README.md",
        repo_type="dataset",
        revision=dataset.revision,
        cache_dir=cache,
    )
    try:
        return dict(hub.DatasetCard.load(path).data.to_dict())
    except Exception as error:  # by what stands there
        raise UserError(
            f"{dataset.name}: its card, README.md, cannot be read at {dataset.revision}: "
            f"{' '.join(str(error).split())}; name a data.revision where it can"
        ) from None


def builder(dataset: Dataset, cache: str) -> Any:
    """The data set as `datasets` knows it, from the hub and nowhere else."""
    # Slow to import, and it is then that they read HF_ENDPOINT and the like.
    import datasets
    import tqdm

    quiet()
    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity(logging.CRITICAL)
    tqdm.tqdm.set_lock(RLock())  # not its own, a semaphore that would outlive a killed process
    # The hub's client makes six attempts at each request, within 23 seconds and without our
    # asking. `datasets` would make twenty times six.
    for setting in "STREAMING_OPEN", "STREAMING_READ":
        setattr(datasets.config, f"{setting}_MAX_RETRIES", 1)
        setattr(datasets.config, f"{setting}_RETRY_INTERVAL", 0)
    # Where the hub fails it, `datasets` takes what it finds in its cache, of any revision, and
    # before it asks the hub, a local folder of that name: hence an empty cache and hf://.
    place = f"hf://datasets/{dataset.name}"
    where = {"revision": dataset.revision, "cache_dir": cache}
    if not _has_card(dataset) and (converted := _converted(dataset)):
        return datasets.load_dataset_builder(place, data_files={dataset.split: converted}, **where)
    try:
        if not dataset.config:
            _check_only(dataset, datasets.get_dataset_config_names(place, **where))
        found = datasets.load_dataset_builder(place, name=dataset.config, **where)
    except ValueError as error:
        if "BuilderConfig" not in str(error):
            raise
        _check_there(dataset, "config", datasets.get_dataset_config_names(place, **where))
        raise
    except RuntimeError as error:
        if "scripts" not in str(error):
            raise
        hint = hint_of_parquet(dataset, dataset.config or "CONFIG")
        raise UserError(f"{dataset.name} is a script, which nobody runs any more{hint}") from None
    _check_there(dataset, "split", map(str, found.config.data_files))
    return found


def _converted(dataset: Dataset) -> list[str]:
    """The split's files, if this is a commit of what the hub has converted; else none."""
    import huggingface_hub as hub

    root = f"datasets/{dataset.name}@{dataset.revision}/"
    paths = [path.removeprefix(root) for path in hub.HfFileSystem().glob(f"{root}*/*/*.parquet")]
    found = [match for path in paths if (match := CONVERTED.fullmatch(path))]
    if not found:
        return []
    configs = list(dict.fromkeys(match["config"] for match in found))
    if dataset.config:
        _check_there(dataset, "config", configs)
    else:
        _check_only(dataset, configs)
    found = [match for match in found if match["config"] == (dataset.config or configs[0])]
    # One of which only the beginning has been converted has another name: partial-train.
    _check_there(dataset, "split", dict.fromkeys(match["split"] for match in found))
    return [match[0] for match in found if match["split"] == dataset.split]


def _check_only(dataset: Dataset, configs: list[str]) -> None:
    if len(configs) > 1:
        raise UserError(
            f"data.config is empty, and {dataset.name} has {len(configs)} configs; set it to one "
            f"of {', '.join(configs)}"
        )


def _check_there(dataset: Dataset, what: Literal["config", "split"], there: Iterable[str]) -> None:
    """Raise UserError where the config or the split is not there."""
    there = list(there)
    wanted = dataset.config if what == "config" else dataset.split
    if wanted not in there:
        place = f" in config {dataset.config}" if what == "split" and dataset.config else ""
        raise UserError(
            f"{dataset.name} has no {what} {wanted!r}{place} at {dataset.revision}; "
            f"it has {', '.join(there)}"
        )


def files(builder: Any, split: str) -> list[str]:
    """The paths of a split's files in the data set's repository, in their order."""
    return [url.split("@", 1)[1].split("/", 1)[1] for url in builder.config.data_files[split]]


def hint_of_parquet(dataset: Dataset, config: str) -> str:
    """Where to read what the hub has converted to parquet, if it has; else nothing."""
    import huggingface_hub as hub

    for ref in hub.HfApi().list_repo_refs(dataset.name, repo_type="dataset").converts:
        if ref.ref == CONVERTED_BRANCH:
            setting = f"-S data.revision={ref.target_commit} -S data.config={config}"
            return f"; the hub has it in parquet: `{setting}`"
    return ""


def _has_card(dataset: Dataset) -> bool:
    """Whether the data set has a README.md. Raises UserError where its revision is no commit.

    And where it is not on the hub, and where the hub does not show it.
    """
    import huggingface_hub as hub
    from huggingface_hub.constants import ENDPOINT

    there = True
    try:
        # A single attempt, so that a hub out of reach shows at once.
        readme = hub.hf_hub_url(
            dataset.name, "README.md", repo_type="dataset", revision=dataset.revision
        )
        try:
            commit = hub.get_hf_file_metadata(readme).commit_hash
        except hub.errors.EntryNotFoundError:
            there = False
            commit = hub.HfApi().dataset_info(dataset.name, revision=dataset.revision).sha
    except hub.errors.HFValidationError:
        raise UserError(f"data.dataset is {dataset.name!r}, which is no OWNER/NAME") from None
    except hub.errors.RevisionNotFoundError:
        raise UserError(
            f"data.revision is {dataset.revision!r}, which {dataset.name} does not have"
        ) from None
    except hub.errors.GatedRepoError:
        raise
    except hub.errors.RepositoryNotFoundError:
        raise UserError(
            f"{dataset.name} is not on {public(ENDPOINT)}; correct data.dataset or, if it is "
            "private, `hf auth login` first"
        ) from None
    if commit != dataset.revision:
        given = f"{dataset.revision!r}, which may move" if dataset.revision else "empty"
        raise UserError(
            f"data.revision is {given}, and a run must come again; set it to the commit that is "
            f"there now: `-S data.revision={commit}`"
        )
    return there
