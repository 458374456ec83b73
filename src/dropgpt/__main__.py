"""The command `dropgpt`; `dropgpt.arguments` has what it takes."""

import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from keyword import iskeyword
from typing import Any

from dropgpt.arguments import parsed
from dropgpt.errors import UserError
from dropgpt.machine.streams import Unbreakable, open_streams


def main() -> None:
    """The command `dropgpt`: its exit status is 0, or 1 where a user's mistake becomes one line.

    2 where the command itself is wrong, 130 after Ctrl-C, as shells have it. Where 1 is a verdict,
    whatever else goes wrong is 2.
    """
    words = sys.argv[1:] or ["--help"]
    # Before they are parsed, since that, too, may find a mistake.
    mistake = 2 if words[0] == "try" or any(one.startswith("--require") for one in words) else 1
    open_streams()
    try:
        arguments = parsed(words)
        command = arguments.pop("command")
        # Only what is asked for is imported: torch and DVC take seconds.
        module = import_module(f"dropgpt.commands.{command}{'_' * iskeyword(command)}")
        output = _Output(sys.stdout, needs_a_reader=command == "write")
        # What is told on standard error is no result.
        with redirect_stdout(output), redirect_stderr(Unbreakable(sys.stderr)):
            status = module.run(**arguments)
            sys.stdout.flush()
        if status:
            sys.exit(status)
    except UserError as error:
        if mistake == 1:
            sys.exit(f"error: {error}")
        print(f"error: {error}", file=sys.stderr)
        sys.exit(mistake)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        _let_go_of_output()
    except OSError as error:  # as of a standard output on a full disk
        why = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or error
        print(f"error: {why}", file=sys.stderr)
        _let_go_of_output()
        sys.exit(mistake)
    except Exception as error:
        if line := _of_user(error):
            print(f"error: {line}", file=sys.stderr)
        elif mistake == 1:
            raise
        else:
            traceback.print_exc()
        sys.exit(mistake)


def _of_user(error: Exception) -> str | None:
    """What git and DVC do not take of the user who calls, and what to do; None of all else."""
    said = str(error)
    if "is not owned by current user" in said:  # of libgit2, whose class is not public
        return (
            f'{" ".join(said.split())}: `git config --global --add safe.directory "$PWD"` in the '
            "project's root allows it"
        )
    if "getpwuid()" in said or re.search(r"determine (the )?home directory", said):
        return f"DVC asks for this user's name and folder ({said}): `export LOGNAME=me HOME=/tmp`"
    return None


class _Output:
    """Standard output whose errors say that they are of it; those of a full disk name no file.

    That its reader has gone, as by `| head`, is an error only where it `needs_a_reader`: else there
    may be a file to write yet, or a status to give.
    """

    def __init__(self, stream: Any, needs_a_reader: bool) -> None:
        self._stream = stream
        self._needs_a_reader = needs_a_reader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._named():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._named():
            self._stream.flush()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            if self._needs_a_reader:
                raise
            _let_go_of_output()
        except OSError as error:
            error.filename = "standard output"
            raise


def _let_go_of_output() -> None:
    """Python would flush it once more on its way out."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
