"""FineWeb, streamed from the Hugging Face hub."""

import logging
import os
import re
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from tempfile import TemporaryDirectory
from threading import RLock
from typing import Any

from dropgpt.corpus.document import Document
from dropgpt.errors import UserError

FINEWEB = "HuggingFaceFW/fineweb"
PATIENCE = 50  # seconds without a document after which the hub counts as gone
COLUMNS = ["text", "id", "url"]


def documents(number: int, config: str, revision: str) -> Iterator[Document]:
    """The first `number` rows of FineWeb's `config` at `revision`, in their order.

    Raises UserError if the hub cannot be reached, breaks off or stalls, lacks the config or the
    revision, or has fewer rows. Nothing ever stands in for what was asked for.
    """
    n = 0
    for document in from_process(_rows, number, config, revision):
        yield document
        n += 1
    if n < number:
        raise UserError(
            f"data.documents is {number}, but config {config} of {FINEWEB} has only {n}; lower "
            "it, or choose a larger data.config"
        )


def document_of_row(row: dict[str, Any], n: int) -> Document:
    """Of row `n` of the config."""
    if not isinstance(row["text"], str):
        raise UserError(f"row {n} of {FINEWEB} has no text")
    id = row["id"] or f"fineweb:{n}"
    return Document(row["text"], id, row["url"] or id)


def from_process(work: Callable[..., Iterator[Any]], *arguments: Any) -> Iterator[Any]:
    """What `work(*arguments, cache)` gives, in a process of its own; `cache` is an empty folder."""
    # Some waits inside `datasets` have no limit, and Arrow's threads may abort the process that
    # leaves a stream before its end (apache/arrow#45214).
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    with TemporaryDirectory() as cache:
        process = context.Process(target=_send, args=(sender, work, *arguments, cache), daemon=True)
        process.start()
        sender.close()
        try:
            while True:
                if not receiver.poll(PATIENCE):
                    raise no_hub(f"nothing came for {PATIENCE} seconds")
                message = receiver.recv()
                if isinstance(message, UserError):
                    raise message
                if message is None:
                    break
                yield message
        except (EOFError, OSError):
            raise no_hub("the process that reads it was killed") from None
        finally:
            process.kill()
            process.join()


def _send(sender: Connection, work: Callable[..., Iterator[Any]], *arguments: Any) -> None:
    """Send all that `work` gives, then None; or the UserError that ended it."""
    try:
        for one in work(*arguments):
            sender.send(one)
        sender.send(None)
    except UserError as error:
        sender.send(error)
    except Exception as error:
        sender.send(no_hub(cause(error)))
    finally:
        os._exit(0)  # without the clean-up in which Arrow's threads may abort


def _rows(number: int, config: str, revision: str, cache: str) -> Iterator[Document]:
    stream = builder(config, revision, cache).as_streaming_dataset("train")
    for n, row in enumerate(stream.select_columns(COLUMNS).take(number)):
        yield document_of_row(row, n)


def builder(config: str, revision: str, cache: str) -> Any:
    """FineWeb as `datasets` knows it, from the hub and nowhere else."""
    # Slow to import, and it is then that they read HF_ENDPOINT and the like.
    import datasets
    import huggingface_hub as hub
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
    try:
        # A single attempt, so that a hub out of reach shows at once.
        readme = hub.hf_hub_url(FINEWEB, "README.md", repo_type="dataset", revision=revision)
        hub.get_hf_file_metadata(readme)
        # Where the hub fails it, `datasets` takes what it finds in its cache, of any revision, and
        # before it asks the hub, a local folder of that name: hence an empty cache and hf://.
        return datasets.load_dataset_builder(
            f"hf://datasets/{FINEWEB}", name=config, revision=revision, cache_dir=cache
        )
    except hub.errors.RevisionNotFoundError:
        raise UserError(f"data.revision is {revision!r}, which {FINEWEB} does not have") from None
    except ValueError as error:
        if "BuilderConfig" not in str(error):
            raise
        raise UserError(
            f"data.config is {config!r}, which {FINEWEB} does not have at {revision}"
        ) from None


def quiet() -> None:
    """The hub's client logs nothing from now on."""
    from huggingface_hub.utils.logging import set_verbosity

    set_verbosity(logging.CRITICAL)  # what it logs may hold a signed URL; we say the one line


def no_hub(why: str) -> UserError:
    """That FineWeb cannot be read, and why."""
    from huggingface_hub.constants import ENDPOINT

    return UserError(
        f"cannot read {FINEWEB} from {_public(ENDPOINT)}: {why}; "
        "without the hub, `dvc exp run -S data.source=wikipedia` runs offline"
    )


def cause(error: BaseException) -> str:
    """What is at the bottom of `error`, in one line that anyone may see."""
    while error.__cause__:
        error = error.__cause__
    return _public(f"{type(error).__name__}: {error}".split("\n")[0]).rstrip(" .")


def _public(text: str) -> str:
    """`text` without the credentials that a URL or a header in it may hold."""
    text = re.sub(r"(?<=://)[^/\s@]*@", "", text)  # user and password
    text = re.sub(r"(://[^\s?'\"]*)\?[^\s'\"]*", r"\1", text)  # a signature in the query
    return re.sub(r"(hf_|Bearer )[^\s'\"]+", r"\1***", text)
