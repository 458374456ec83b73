"""`dropgpt measure`: any causal language model, as the stage evaluate measures ours."""

import json
import math
import re
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from dropgpt import evaluation, params
from dropgpt.comparison import result_file
from dropgpt.comparison.experiments import EVALUATE
from dropgpt.comparison.result_file import Measured, Result
from dropgpt.comparison.tables import folded
from dropgpt.errors import UserError, counted
from dropgpt.machine import provenance
from dropgpt.machine.files import SUMS
from dropgpt.machine.hardware import prepare
from dropgpt.machine.memory import enough_memory
from dropgpt.machine.progress import progress
from dropgpt.measuring.language_model import Encoded, LanguageModel
from dropgpt.measuring.opening import opened
from dropgpt.measuring.texts import TOKENS, held_out, of_files
from dropgpt.model import artifact
from dropgpt.params import NOT_YAML, Evaluate, Params
from dropgpt.perplexity import interval
from dropgpt.tokens import tensor, trained_on

PARAMS = Path("params.yaml")
CHECKSUM = re.compile(r"[+-]?0\w|\d+_")  # 0012, 0x12 and 1_2 are numbers to YAML
LOGITS = 1 << 28  # numbers at once, where all of a batch are in memory: 1 GiB


def run(
    model: str,
    texts: list[Path],
    revision: str | None,
    text_column: str | None,
    separator: str | None,
    stride: int | None,
    context: int | None,
    across_documents: bool,
    no_end_of_text: bool,
    made_by: list[str],
    output: Path | None,
) -> None:
    known = dict(map(_pair, made_by))
    if output:
        _check_output(output, [model, *made_by])
    here = _ours()
    if texts:
        documents = of_files(texts, here, text_column, separator)
    elif text_column is None and separator is None:
        documents = held_out()
    else:
        raise UserError("measure: --text-column and --separator say how to read TEXTs: name some")
    device = prepare(*(here.runtime.device, here.runtime.threads) if here else ())
    with enough_memory(f"measure, on {device}", f"{model} in float32 takes more than there is"):
        lm = opened(model, device, revision)
    context = context or lm.longest
    evaluate = _evaluate(here, stride, across_documents, context)
    _check(model, lm, evaluate.stride, context)
    ends = not no_end_of_text and (here is None or here.tokenize.end_of_text)

    lost: list[int] = []
    tokens, table = tensor.in_memory(_compared(lm, lm.encode(documents, ends), lost))
    if not len(tokens):
        raise UserError("measure: the texts have no token")
    began = time.monotonic()
    with enough_memory(f"measure, on {device}", "lower --context"):
        found = table.assign(nats=_nats(lm, tokens, table, evaluate, context))
    speed = len(tokens) / (time.monotonic() - began)
    if not np.isfinite(total := found.nats.to_numpy().sum()):
        raise UserError(f"{model}: its loss is {total}: its weights or logits overflow")
    measured = Measured(
        stride=evaluate.stride,
        context=context,
        across_documents=evaluate.across_documents,
        end_of_text=ends,
        begins_with=lm.begin[1],
        tokenizer=lm.tokenizer,
        dtype="float32",
        lost_bytes=sum(lost),
        versions={name: version(name) for name in ("dropgpt", *lm.packages)},
    )
    if output:
        _write(output, result_file.of(lm.made_by | known, measured, found))
    lines = told(model, found, measured)
    if texts:
        lines += _trained_on(Path(model), table)
    else:
        lines += artifact.lines_of_other_tokens(Path(model), TOKENS)
    if here:
        lines += _other_code(Path(model))
    for line in [*lines, f"{speed:,.0f} tokens/s on {device}"]:
        print(folded(line))
    if output:
        print(f"{output}: for `dropgpt compare`")


def _trained_on(model: Path, table: pd.DataFrame) -> list[str]:
    """A warning where the tokens that the model was trained on lie here, and have these texts."""
    made = provenance.read(model).get("train") if model.is_dir() else None
    here = (TOKENS / SUMS).is_file() and provenance.checksum([TOKENS / SUMS])
    if made is None or made["inputs"]["tokens"] != here:
        return []
    try:
        return trained_on.lines(TOKENS, {"TEXT": table})
    except UserError as error:  # damage there costs no measurement of other texts
        return [f"note: whether {model} was trained on these texts cannot be told: {error}"]


def _other_code(model: Path) -> list[str]:
    """A note where a model of this project was made by other code than lies here."""
    made = provenance.read(model).get("train") if model.is_dir() else None
    if made is None or not Path("dvc.yaml").is_file() or made["code"] == provenance.code("train"):
        return []
    return [f"note: {model} was made by other code than lies here, with which it was measured"]


def told(model: str, documents: pd.DataFrame, measured: Measured) -> list[str]:
    """What was found, of what, and what to know of it, in lines."""
    nats, sizes = documents.nats, documents.bytes
    between = "unknown, of one document"
    if found := interval(nats, sizes, documents.source):
        between = " to ".join(f"{end / math.log(2):.3f}" for end in found)
    lines = [
        f"{model}: {nats.sum() / sizes.sum() / math.log(2):.3f} bits per byte (95% interval "
        f"{between}), {nats.sum() / documents.tokens.sum():.3f} nats a token",
        f"of {documents.tokens.sum():,} tokens, {sizes.sum():,} bytes, in "
        f"{counted(len(documents), 'document')}; stride {measured.stride}, context "
        f"{measured.context}",
        f"{'the first' if measured.across_documents else 'each'} document begins with "
        f"{measured.begins_with}; the end of each is {'' if measured.end_of_text else 'not '}"
        "predicted, too",
    ]
    if measured.lost_bytes:
        lines.append(
            f"note: of the texts at least {counted(measured.lost_bytes, 'byte')} are not in what "
            "the tokenizer gives back; what it leaves out or changes costs nothing, so that the "
            "number looks better than it is"
        )
    return lines


def _nats(
    lm: LanguageModel, tokens: Any, documents: pd.DataFrame, evaluate: Evaluate, context: int
) -> Any:
    """Of each document, (len(documents),)."""
    lengths = documents.tokens.to_numpy()
    windows = evaluation.plan(lengths, context, evaluate.stride, evaluate.across_documents)
    batch_size = evaluate.batch_size
    if lm.whole_logits:
        widest = max(window.end - window.first for window in windows)
        batch_size = max(1, min(batch_size, LOGITS // (widest * lm.n_vocab)))
    with progress("measure", "tokens", 10, len(tokens)) as bar:
        losses = evaluation.stream_losses(
            lm.nats, lm.begin[0], tokens, windows, batch_size, bar.update
        )
    return evaluation.by_document(losses, documents)


def _compared(lm: LanguageModel, encoded: Encoded, lost: list[int]) -> Encoded:
    """The same; `lost` is told of each document that has some how many bytes its tokens lose."""
    for document, ids in encoded:
        again = lm.decode(ids.tolist())
        if again != document.text:
            lost.append(_lost(document.text, again))
        yield document, ids


def _lost(text: str, again: str) -> int:
    """How many bytes of a text are not in what its tokens are decoded to, at least.

    A decoder may put spaces where none stood: where both have the same letters, they are counted
    place by place.
    """
    parts = [(text, again)]
    if "".join(text.split()) == "".join(again.split()):
        parts = [*zip(_spaces(text), _spaces(again), strict=True)]
    gone = (Counter(ours) - Counter(theirs) for ours, theirs in parts)
    return sum(len(c.encode()) * n for each in gone for c, n in each.items())


def _spaces(text: str) -> list[str]:
    """The white space before each other character, and at the end."""
    return re.split(r"\S", text)


def _evaluate(
    here: Params | None, stride: int | None, across_documents: bool, context: int
) -> Evaluate:
    """The section `evaluate` of params.yaml, or else its defaults, with what was asked for.

    A stride that nobody has said is one that the context allows.
    """
    evaluate = here.evaluate if here else EVALUATE
    if not here and not stride and evaluate.stride > context:
        stride = max(1, context // 2)
    asked = {"stride": stride} if stride else {}
    asked |= {"across_documents": True} if across_documents else {}
    return evaluate.model_copy(update=asked)


def _check_output(output: Path, words: list[str]) -> None:
    """Raise UserError where no result file can be written, before hours have gone into it.

    `words` are those of the command that stand in it.
    """
    if output.suffix != ".json":
        raise UserError(f"{output}: name it .json: by that `dropgpt compare` knows a result file")
    if output.exists() and not result_file.holds_one(output):
        raise UserError(
            f"{output} is there, and is no result file: name another one, or move it away"
        )
    if not output.absolute().parent.is_dir():
        raise UserError(f"{output}: there is no folder {output.parent} to write in")
    try:
        with TemporaryFile(dir=output.parent):
            pass
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {error.strerror}") from None
    try:
        "".join(words).encode()
    except UnicodeEncodeError:
        raise UserError(f"measure: a result file is UTF-8, and {' '.join(words)} is not") from None


def _write(output: Path, result: Result) -> None:
    try:
        result_file.write(output, result)
    except OSError as error:
        print(json.dumps(result.model_dump()))
        raise UserError(
            f"{output} cannot be written: {error.strerror}; the line before is what was to stand "
            "there"
        ) from None


def _ours() -> Params | None:
    """What this folder's params.yaml says, where it is one of this project."""
    if not PARAMS.is_file():
        return None
    try:
        values = YAML(typ="safe").load(PARAMS)
        sections = {*values} if isinstance(values, dict) else set()
    except NOT_YAML:  # as of a template, or in the midst of an edit of ours
        sections = {*re.findall(r"^(\w+):", PARAMS.read_text(errors="replace"), re.MULTILINE)}
    # One of ours in which a section is missing is a mistake, and is told as such.
    if len({*Params.model_fields} - sections) > 1:
        print(f"note: {PARAMS} is of another project: stride and the rest are the defaults")
        return None
    return params.load(PARAMS)


def _check(model: str, lm: LanguageModel, stride: int, context: int) -> None:
    """Raise UserError where windows so long, or so far apart, cannot be."""
    if lm.n_ctx and context > lm.n_ctx:
        raise UserError(f"{model} reads {lm.n_ctx} tokens at most: --context {context} is more")
    if stride > context:
        raise UserError(
            f"stride {stride} is above the context, {context}: tokens between two windows would "
            "not be measured; lower --stride"
        )


def _pair(text: str) -> tuple[str, Any]:
    """KEY=VALUE, the value as params.yaml would have it; no checksum is taken for a number."""
    key, equals, value = text.partition("=")
    try:
        found = YAML(typ="safe").load(value)
    except NOT_YAML:  # 2024-13-01 would be a date
        found = value
    if not key or not equals:
        raise UserError(f"measure: --made-by {text}: write it as KEY=VALUE")
    scalar = (
        found is None
        or isinstance(found, str | int)
        or (isinstance(found, float) and math.isfinite(found))
    )
    return key, found if scalar and not CHECKSUM.match(value) else value
