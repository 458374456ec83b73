"""The command `dropgpt`; `dropgpt.arguments` has what it takes."""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from keyword import iskeyword
from typing import Any

from dropgpt.arguments import parsed
from dropgpt.errors import UserError
from dropgpt.machine.streams import open_streams


def main() -> None:
    """The command `dropgpt`: its exit status is 0, or 1 where a user's mistake becomes one line.

    2 where the command itself is wrong, 130 after Ctrl-C, as shells have it. Where 1 is a verdict,
    whatever else goes wrong is 2.
    """
    mistake = 1
    open_streams()
    try:
        arguments = parsed(sys.argv[1:] or ["--help"])
        command = arguments.pop("command")
        mistake = 2 if command == "try" or arguments.get("require") else 1
        # Only what is asked for is imported: torch and DVC take seconds.
        module = import_module(f"dropgpt.commands.{command}{'_' * iskeyword(command)}")
        with redirect_stdout(_Output(sys.stdout)):
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
    except BrokenPipeError:  # by `| head`, say; Python would flush once more on its way out
        _let_go_of_output()
        if mistake != 1:
            sys.exit(mistake)
    except OSError as error:  # as of a standard output on a full disk
        why = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or error
        print(f"error: {why}", file=sys.stderr)
        _let_go_of_output()
        sys.exit(mistake)
    except Exception:
        if mistake == 1:
            raise
        traceback.print_exc()
        sys.exit(mistake)


class _Output:
    """Standard output whose errors say that they are of it; those of a full disk name no file."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._named():
            return int(self._stream.write(text))

    def flush(self) -> None:
        with self._named():
            self._stream.flush()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename = "standard output"
            raise


def _let_go_of_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
