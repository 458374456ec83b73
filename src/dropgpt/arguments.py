"""The command line of `dropgpt`: what each command takes, and its help."""

import argparse
from importlib.metadata import version
from pathlib import Path
from typing import Any

import shtab

from dropgpt.errors import UserError

# Within 80 columns, as are the examples; the others are folded by argparse.
DESCRIPTION = "What dropout does in GPT pretraining: models write, are measured and compared."

EXAMPLES = """examples:
  dropgpt write "Once upon a time"     the model in models/gpt goes on
  dropgpt compare --by model.dropout   all experiments since HEAD, by dropout
  dropgpt measure ckpt.pt texts/*.txt  bits per byte of a model of nanoGPT
  dropgpt try -S model.dropout=0.2     is that better? 2 to 8 seeds of each
  dropgpt report                       reports/index.html, of this folder
  dropgpt trace --step 430             which documents this step has read
  dropgpt export for-the-hub           with a model card, for `hf upload`
"""

WRITE = """Let a model write. Without a PROMPT it begins a document. It writes until it ends its
text, or --tokens are written.
"""

MEASURE = """Measure a causal language model, whoever made it: bits per byte of the held-out part of
data/tokens, or of TEXTs. Each token is predicted once, with dropout off, in float32. Stride and
the rest are as params.yaml has them, where there is one.
"""

COMPARE = """Compare runs on the held-out tokens. Without a REVISION: all experiments since HEAD,
grouped by what differs in them but the seed. With some: these experiments, branches, tags or
commits, the first of which is the baseline, or with --by the lowest value; with two, document by
document. "workspace" is what lies in this folder, which is not touched. A file that ends in .json
is a result of `dropgpt measure`, or of another program.
"""

REQUIRE = """With --require the exit status is 0 where it holds of every group beside the baseline,
1 where the opposite is shown of one of them, 3 where the runs cannot tell, 2 after a mistake.
Where groups are made by parameters, --baseline must say which of them that is.
"""

TRY = """Try a change: train with it and without, seed by seed, until the verdict is in or the seeds
are used up. Seeds that were run since HEAD count; stopped or killed, the same command goes on. Its
exit status is 0 where the change is better, 1 where it is worse, 3 where that many seeds cannot
tell, 4 where a run with it fails, and 2 after a mistake.
"""

REPORT = """Write a page about a run that any browser shows, in one file without network. Without a
REVISION: what lies in this folder, which is not touched. With several experiments, branches, tags
or commits: all of them in the same pictures, compared with the first.
"""

TRACE = """Name the documents that a step of a training read: for each window of its batch the
documents that it runs over, how many tokens of each, from which one of the document's tokens on
(the first is 0), and how that text begins. A window has n_ctx tokens and the one after them, which
is only predicted. Steps and windows count from 0, steps as metrics/training.csv does. Seed, step
and parameters decide, those in the model's provenance.json, not today's params.yaml; data/tokens
must be what the model was trained on.
"""


EXPORT = "Write a folder for the Hugging Face hub: a model and its model card."


def parsed(words: list[str]) -> dict[str, Any]:
    """The values of a command line, by name; options may stand between names, too.

    Exits with 2 where it is no such line.
    """
    whole = parser()
    found, rest = whole.parse_known_args(words)
    values = vars(found)
    # What argparse leaves over: it takes all names of a list at once, before the next option.
    names = next((key for key in ("texts", "revisions") if key in values), None)
    if rest and "prompt" in values and not any(word.startswith("-") for word in rest):
        whole.error("write: put a PROMPT of several words in quotation marks")
    if rest and "prompt" in values:
        whole.error(
            f"unrecognized arguments: {' '.join(rest)}; a PROMPT that begins with - comes after --"
        )
    if rest and (names is None or any(word.startswith("-") for word in rest)):
        whole.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest and names:
        values[names] += map(Path, rest) if names == "texts" else rest
    return values


def parser() -> argparse.ArgumentParser:
    """Of the whole command line; each command has a module of its name in `dropgpt.commands`."""
    whole = argparse.ArgumentParser(
        prog="dropgpt",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    whole.add_argument("--version", action="version", version=f"dropgpt {version('dropgpt')}")
    whole.add_argument(
        "--print-completion",
        action=shtab.completion_action(),
        choices=shtab.SUPPORTED_SHELLS,
        default=argparse.SUPPRESS,
        metavar="SHELL",
        help=f"print what completes `dropgpt` on Tab, for {', '.join(shtab.SUPPORTED_SHELLS)}",
    )
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, what, about, add in (
        ("write", "let a model write", WRITE, add_write),
        ("measure", "bits per byte of any language model", MEASURE, add_measure),
        (
            "compare",
            "whether runs differ by more than chance",
            f"{COMPARE}\n{REQUIRE}",
            add_compare,
        ),
        ("try", "run a change seed by seed, until it is judged", TRY, add_try),
        ("report", "a page about runs, for the browser", REPORT, add_report),
        ("trace", "which documents a step of the training read", TRACE, add_trace),
        (
            "export",
            "a model with a model card, for `hf upload`",
            EXPORT,
            add_export,
        ),
    ):
        # `try --seed 7` is a mistake, and not `--seeds 7`.
        add(commands.add_parser(name, help=what, description=about, allow_abbrev=False))
    return whole


def add_write(command: argparse.ArgumentParser) -> None:
    command.add_argument("prompt", nargs="?", default="", metavar="PROMPT", help="how it begins")
    add = command.add_argument
    add_model(command, "a GPT-2, made here or elsewhere")
    add("--temperature", type=float, default=0.8, metavar="T", help="0: greedy (default: 0.8)")
    add("--tokens", type=int, default=200, metavar="N", help="at most N (default: 200)")
    add("--top-k", type=int, metavar="K", help="draw from the K likeliest tokens only")
    add("--top-p", type=float, metavar="P", help="from the likeliest, which make up P, 0 to 1")
    add("--seed", type=int, metavar="N", help="write again what N wrote (default: a new one)")


def add_model(command: argparse.ArgumentParser, what: str) -> None:
    model = command.add_argument(
        "--model",
        type=Path,
        default=Path("models/gpt"),
        metavar="FOLDER",
        help=f"{what} (default: %(default)s)",
    )
    model.complete = shtab.DIRECTORY  # type: ignore[attr-defined]


def add_measure(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "model",
        metavar="MODEL",
        help="a folder; a name on the Hugging Face hub; nanoGPT's ckpt.pt",
    )
    command.add_argument(
        "texts",
        nargs="*",
        type=Path,
        metavar="TEXT",
        help="files as in corpora/, but anywhere (docs/your-texts.md)",
    )
    add = command.add_argument
    add("--text-column", metavar="KEY", help="of TEXTs in columns or JSON (text)")
    add(
        "--separator",
        metavar="S",
        help="parts documents in plain TEXTs; '': one file, one document",
    )
    add("--revision", metavar="NAME", help="of MODEL on the hub: a branch, a tag or a commit")
    add("--stride", type=positive, metavar="N", help="tokens between two windows")
    add("--context", type=positive, metavar="N", help="most tokens in a window")
    add("--across-documents", action="store_true", help="the context runs on from one to the next")
    add("--no-end-of-text", action="store_true", help="the end of a document is not predicted")
    add("--output", type=output, metavar="FILE", help="write the result, for `dropgpt compare`")
    add(
        "--made-by",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a parameter that made it, as train.seed=1; may be given several times",
    )


def output(text: str, option: str = "--output") -> Path:
    """A file to write, or the one that a link leads to.

    Raises UserError where what is there is none, since a file would take the place of /dev/null.
    """
    path = Path(text)
    if path.is_dir():
        raise UserError(f"{option} {path} is a folder: name a file in it")
    if path.exists() and not path.is_file():
        raise UserError(f"{option} {path} is a device or a pipe: name a file")
    return path.resolve() if path.is_symlink() else path


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if (value := int(text)) < 1:
        raise ValueError
    return value


def add_compare(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "revisions",
        nargs="*",
        metavar="REVISION",
        help="experiment, branch, tag, commit, workspace, result.json",
    )
    command.add_argument("--by", action="append", metavar="KEY", help="group by this parameter")
    command.add_argument(
        "--baseline", metavar="VALUE", help="the group to compare with (the first row)"
    )
    command.add_argument(
        "--group",
        action="append",
        metavar="NAME=GLOB",
        help="these result files are the seeds of one thing; may be given several times",
    )
    command.add_argument(
        "--require",
        choices=("better", "worse", "no-worse"),
        metavar="CLAIM",
        help="exit by whether all are better, worse, or no-worse, by --margin",
    )
    command.add_argument(
        "--margin", type=float, metavar="M", help="a difference that matters, in bits per byte"
    )
    command.add_argument(
        "--tries", type=int, default=0, metavar="N", help="so many other changes are looked at (0)"
    )
    command.add_argument(
        "--plot",
        type=lambda text: output(text, "--plot"),
        metavar="FILE",
        help="differences as .svg or .png",
    )
    formats = command.add_mutually_exclusive_group()
    for name, what in (
        ("md", "a table in Markdown"),
        ("json", "all that is known, for programs"),
        ("csv", "the numbers of the table, not rounded"),
    ):
        formats.add_argument(
            f"--{name}", dest="format", action="store_const", const=name, help=f"print {what}"
        )


def add_try(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    change = "the change, as `dvc exp run` takes it; several make one change"
    add("-S", dest="settings", action="append", required=True, metavar="KEY=VALUE", help=change)
    add("--seeds", type=int, default=8, metavar="N", help="N at most, 2 to 20 (default: 8)")
    add("--tries", type=int, default=0, metavar="N", help="so many other changes are looked at (0)")


def add_report(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "revisions",
        nargs="*",
        metavar="REVISION",
        help="experiment, branch, tag, commit",
    )
    command.add_argument(
        "--output",
        type=output,
        metavar="FILE",
        default="reports/index.html",
        help="the page: %(default)s",
    )


def add_trace(command: argparse.ArgumentParser) -> None:
    command.add_argument("--step", type=int, required=True, metavar="N", help="0 is the first")
    add_model(command, "a model that was trained here")
    command.add_argument(
        "--json",
        dest="as_json",
        action="store_true",
        help="for programs: model, step, seed, and windows, each with its number (window) and "
        "documents: id, offset, tokens and their whole text",
    )


def add_export(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", type=Path, metavar="FOLDER", help="is made, or is empty")
    add_model(command, "a model that was trained here")
