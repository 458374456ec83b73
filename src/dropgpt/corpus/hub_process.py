"""Work with the hub in a process of its own, and its errors as a user reads them."""

import logging
import os
import re
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from tempfile import TemporaryDirectory
from typing import Any

from dropgpt.errors import UserError, of_machine

PATIENCE = 50  # seconds without a row after which the hub counts as gone


def from_process(name: str, work: Callable[..., Iterator[Any]], *arguments: Any) -> Iterator[Any]:
    """What `work(*arguments, cache)` gives, in a process of its own; `cache` is an empty folder.

    `name` is the data set's. Raises UserError where that ends in an error or nothing comes, and
    what tells of this machine's memory or disk as it is.
    """
    # Some waits inside `datasets` have no limit, and Arrow's threads may abort the process that
    # leaves a stream before its end (apache/arrow#45214).
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    with TemporaryDirectory() as cache:
        process = context.Process(
            target=_send, args=(sender, name, work, *arguments, cache), daemon=True
        )
        process.start()
        sender.close()
        try:
            _received(receiver, name)  # that it has imported what it needs, on however slow a disk
            while (message := _received(receiver, name, PATIENCE)) is not None:
                if isinstance(message, Exception):
                    raise message
                yield message
        finally:
            process.kill()
            process.join()


def _received(receiver: Connection, name: str, patience: float | None = None) -> Any:
    """What comes next, within `patience` seconds; None: whenever."""
    try:
        if receiver.poll(patience):
            return receiver.recv()
    except (EOFError, OSError):
        raise no_hub(name, "the process that reads it was killed") from None
    raise no_hub(name, f"nothing came for {patience} seconds")


def _send(
    sender: Connection, name: str, work: Callable[..., Iterator[Any]], *arguments: Any
) -> None:
    """Send that it begins, all that `work` gives, and None; or what `told` makes of its error."""
    try:
        import datasets  # noqa: F401, slow to import, and nothing is asked of the hub meanwhile

        sender.send("begins")
        for one in work(*arguments):
            sender.send(one)
        sender.send(None)
    except Exception as error:
        sender.send(told(name, error))
    finally:
        os._exit(0)  # without the clean-up in which Arrow's threads may abort


def quiet() -> None:
    """The hub's client logs nothing from now on."""
    from huggingface_hub.utils.logging import set_verbosity

    set_verbosity(logging.CRITICAL)  # what it logs may hold a signed URL; we say the one line


def no_hub(name: str, why: str) -> UserError:
    """That the data set cannot be read, and why."""
    from huggingface_hub.constants import ENDPOINT

    return UserError(
        f"cannot read {name} from {public(ENDPOINT)}: {why}; "
        "without the hub, `dvc exp run -S data.source=wikipedia` runs offline"
    )


def told(name: str, error: Exception) -> Exception:
    """What the user reads of whatever befell the reading."""
    if isinstance(error, UserError) or of_machine(error):
        return error
    if isinstance(error, UnicodeDecodeError):
        return not_utf8(name, "a row", error)
    return refused(name, error) or no_hub(name, cause(error))


def not_utf8(name: str, row: str, error: UnicodeDecodeError) -> UserError:
    """That a text of the data set is none; to ask the hub again would change nothing."""
    return UserError(
        f"{name}: {row} is not UTF-8 at byte {error.start}; name a data.revision without it"
    )


def refused(name: str, error: BaseException | None) -> UserError | None:
    """That the hub does not show the data set to this user, if that is what `error` comes from."""
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import GatedRepoError

    while error:
        response = getattr(error, "response", None)
        status = getattr(response, "status_code", None)
        page = f"{public(ENDPOINT)}/datasets/{name}"
        if isinstance(error, GatedRepoError):
            return UserError(
                f"{name} is gated ({status}): ask for access on {page}, then `hf auth login`"
            )
        # Not of a signed address elsewhere, which has run out and is asked for anew.
        if status in (401, 403) and str(getattr(response, "url", "")).startswith(ENDPOINT):
            return UserError(
                f"the hub does not show {name} to you ({status}): `hf auth login` with a token "
                f"that may read {page}"
            )
        error = error.__cause__ or error.__context__
    return None


def cause(error: BaseException) -> str:
    """What is at the bottom of `error`, in one line that anyone may see."""
    while error.__cause__:
        error = error.__cause__
    return public(f"{type(error).__name__}: {error}".split("\n")[0]).rstrip(" .")


def public(text: str) -> str:
    """`text` without the credentials that a URL or a header in it may hold."""
    text = re.sub(r"(?<=://)[^/\s@]*@", "", text)  # user and password
    text = re.sub(r"(://[^\s?'\"]*)\?[^\s'\"]*", r"\1", text)  # a signature in the query
    return re.sub(r"(hf_|Bearer )[^\s'\"]+", r"\1***", text)
