"""FineWeb, streamed from the Hugging Face hub."""

import logging
import os
import re
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from tempfile import TemporaryDirectory
from threading import RLock

from dropgpt.corpus.document import Document
from dropgpt.errors import UserError

FINEWEB = "HuggingFaceFW/fineweb"
PATIENCE = 50  # seconds without a document after which the hub counts as gone


def documents(number: int, config: str, revision: str) -> Iterator[Document]:
    """The first `number` rows of FineWeb's `config` at `revision`, in their order.

    Raises UserError if the hub cannot be reached, breaks off or stalls, lacks the config or the
    revision, or has fewer rows. Nothing ever stands in for what was asked for.
    """
    # In a process of its own: some waits inside `datasets` have no limit, and Arrow's threads may
    # abort the process that leaves a stream before its end (apache/arrow#45214).
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    with TemporaryDirectory() as cache:
        arguments = (sender, number, config, revision, cache)
        process = context.Process(target=_send_fineweb, args=arguments, daemon=True)
        process.start()
        sender.close()
        try:
            for n in range(number + 1):
                if not receiver.poll(PATIENCE):
                    raise _no_hub(f"nothing came for {PATIENCE} seconds")
                message = receiver.recv()
                if isinstance(message, UserError):
                    raise message
                if message:
                    yield message
                elif n < number:
                    raise UserError(
                        f"data.documents is {number}, but config {config} of {FINEWEB} has only "
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
