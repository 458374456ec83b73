"""What dropout does in GPT pretraining: look at what the pipeline has made."""

import argparse
import os
import sys
from importlib import import_module
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path
from typing import cast

from dropgpt.errors import UserError

COMPARE = """Compare runs on the held-out tokens.

Without a REVISION: all experiments since HEAD, grouped by what differs in them but the seed.
With some: these experiments, branches, tags or commits, the first of which is the baseline; with
two, document by document. "workspace" is what lies in this folder, which is not touched.
"""


REPORT = """Write a page about a run that any browser shows, in one file without network.

Without a REVISION: what lies in this folder, which is not touched. With several experiments,
branches, tags or commits: all of them in the same pictures, compared with the first.
"""


def main() -> None:
    """The command `dropgpt`: a user's mistake becomes one line and exit status 1."""
    for stream in (sys.stdout, sys.stderr):  # a terminal need not know every character
        cast(TextIOWrapper, stream).reconfigure(errors="backslashreplace")
    arguments = vars(parser().parse_args())
    try:
        # Only what is asked for is imported: torch and DVC take seconds.
        import_module(f"dropgpt.commands.{arguments.pop('command')}").run(**arguments)
        sys.stdout.flush()
    except UserError as error:
        sys.exit(f"error: {error}")
    except BrokenPipeError:  # by `| head`, say; Python would flush once more on its way out
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parser() -> argparse.ArgumentParser:
    """Of the whole command line; each command has a module of its name in `dropgpt.commands`."""
    whole = argparse.ArgumentParser(prog="dropgpt", description=__doc__)
    whole.add_argument("--version", action="version", version=f"dropgpt {version('dropgpt')}")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_compare(commands)
    add_report(commands)
    return whole


def add_compare(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "compare",
        help="whether runs differ by more than chance",
        description=COMPARE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("revisions", nargs="*", metavar="REVISION")
    command.add_argument("--by", action="append", metavar="KEY", help="group by this parameter")
    command.add_argument("--baseline", metavar="VALUE", help="the group to compare with: the first")
    command.add_argument("--plot", type=Path, metavar="FILE", help="differences as .svg or .png")
    formats = command.add_mutually_exclusive_group()
    for name, what in (
        ("md", "a table in Markdown"),
        ("json", "all that is known, for programs"),
        ("csv", "the numbers of the table, not rounded"),
    ):
        formats.add_argument(
            f"--{name}", dest="format", action="store_const", const=name, help=f"print {what}"
        )


def add_report(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "report",
        help="a page about runs, for the browser",
        description=REPORT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("revisions", nargs="*", metavar="REVISION")
    command.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        default=Path("reports/index.html"),
        help="the page: %(default)s",
    )


if __name__ == "__main__":
    main()
