"""`dropgpt trace`: which documents a step of the training read, from its seed and number alone."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.cells import cell_len, set_cell_size

from dropgpt.errors import UserError, warn
from dropgpt.machine import provenance
from dropgpt.machine.files import SUMS, check_seal
from dropgpt.tokens import tensor
from dropgpt.tokens.batches import Starts, batch_starts
from dropgpt.tokens.tensor import TokenTensor
from dropgpt.tokens.vocabulary import gpt2_encoding

TOKENS = Path("data/tokens")
OURS = Path("models/gpt")  # the stage train makes it


def run(step: int, model: Path, as_json: bool) -> None:
    made = record(model)
    params = made["params"]
    if not 0 <= step < params["train"]["steps"]:
        last = params["train"]["steps"] - 1
        raise UserError(f"--step {step}: the training of {model} had the steps 0 to {last}")
    tokens = tensor.read(TOKENS)
    if made["inputs"]["tokens"] != provenance.checksum([TOKENS / SUMS]):
        raise UserError(
            f"{TOKENS} is not what {model} was trained on: bring back that run, by `dvc exp apply` "
            "or by `git checkout` and `dvc checkout`"
        )
    if made["code"] != provenance.code("train"):
        warn(f"{model} was made by other code than lies here, which may have read other windows")
    starts = window_starts(tokens, params, step)
    found = {
        "model": str(model),
        "step": step,
        "seed": params["train"]["seed"],
        "token_replacement": params["train"].get("token_replacement", 0.0),
        "windows": list(windows(tokens, starts, params["model"]["n_ctx"])),
    }
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(told(found, params["model"]["n_ctx"])))


def record(model: Path) -> dict[str, Any]:
    """What the training of the model in that folder was: its parameters and inputs."""
    if model != OURS and not model.is_dir():
        raise UserError(f"{model}: no such folder")
    if not model.is_dir() or (model / SUMS).exists():
        check_seal(model, "train", [provenance.FILE])
    made = provenance.read(model).get("train")
    if not made:
        raise UserError(f"{model} does not say what it was trained on: it was not made here")
    return made


def window_starts(tokens: TokenTensor, params: dict[str, Any], step: int) -> Starts:
    """Where the windows of the batch begin, (batch_size,), from the record's parameters."""
    train = params["train"]
    return batch_starts(
        len(tokens.train[: train["tokens"]]),
        params["model"]["n_ctx"],
        train["batch_size"],
        train["sampling"],
        train["seed"],
        step,
    )


def windows(tokens: TokenTensor, starts: Starts, n_ctx: int) -> Iterator[dict[str, Any]]:
    """Each window of the batch: its number and, in their order, the documents that it runs over.

    Of each the id, the offset of the first token that was read, how many were, and their text.
    """
    length = n_ctx + 1  # with the last target
    encoding = gpt2_encoding(tokens.n_vocab)
    for number, (start, parts) in enumerate(
        zip(starts.tolist(), _parts(starts, length), strict=True)
    ):
        for part in parts:
            ids = np.asarray(tokens.tokens[start : start + part["tokens"]])
            part["text"] = encoding.decode(ids.tolist())  # half a character at an end: U+FFFD
            start += part["tokens"]
        yield {"window": number, "documents": parts}


def _parts(starts: Starts, length: int) -> list[list[dict[str, Any]]]:
    """For each window of `length` tokens the documents that it runs over: id, offset, tokens."""
    found: list[list[dict[str, Any]]] = [[] for _ in starts]
    before = 0  # tokens, in the shards before
    for table in tensor.tables(TOKENS, "id", "tokens"):
        ends = before + table.tokens.to_numpy().cumsum()
        begins = ends - table.tokens.to_numpy()
        for parts, start in zip(found, starts.tolist(), strict=True):
            first = np.searchsorted(ends, start, side="right")
            last = np.searchsorted(begins, start + length)
            for row in range(first, last):
                offset = max(0, start - int(begins[row]))
                stop = min(start + length, int(ends[row])) - int(begins[row])
                parts.append({"id": table.id[row], "offset": offset, "tokens": stop - offset})
        before += int(table.tokens.sum())
    return found


def told(found: dict[str, Any], n_ctx: int) -> Iterator[str]:
    """The lines for a terminal; a text is one line of its width, or of 80 columns without one."""
    yield (
        f"{found['model']}, step {found['step']}: {len(found['windows'])} windows of {n_ctx} "
        "tokens and the one after them"
    )
    if rate := found["token_replacement"]:
        yield f"each input was replaced with a probability of {rate}, which is not shown here"
    width = shutil.get_terminal_size().columns
    for window in found["windows"]:
        yield f"window {window['window']}"
        for part in window["documents"]:
            yield f"  {part['tokens']:,} tokens from {part['offset']:,} on of {part['id']}"
            yield f"    {_line(part['text'], width - 4)}"


def _line(text: str, width: int) -> str:
    """As much of a text as fits into so many columns; some characters take two."""
    line = "".join(filter(str.isprintable, " ".join(text.split())))
    return line if cell_len(line) <= width else f"{set_cell_size(line, width - 1)}…"
