"""A model and data/tokens -> held-out perplexity, and the loss of each document"""

import hashlib
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from dropgpt import corpus, evaluation, perplexity
from dropgpt.corpus.document import Document
from dropgpt.errors import UserError
from dropgpt.machine import kept, processes, provenance
from dropgpt.machine.files import SUMS, replacing, seal, write_json
from dropgpt.machine.hardware import environment, prepare
from dropgpt.machine.memory import enough_memory
from dropgpt.machine.progress import progress
from dropgpt.machine.provenance import Chain
from dropgpt.machine.slot import slot
from dropgpt.model import artifact
from dropgpt.model.sharding import shard
from dropgpt.params import Params
from dropgpt.tokens import tensor, trained_on
from dropgpt.tokens.array import Tokens
from dropgpt.tokens.batches import readings
from dropgpt.tokens.encoding import decode_documents, encode_documents
from dropgpt.tokens.tensor import TokenTensor
from dropgpt.tokens.vocabulary import gpt2_encoding
from dropgpt.yardsticks import kneser_ney_loss, unigram_loss
from stages import run

TOKENS = Path("data/tokens")
FEW = 8  # readings, up to which RESULTS.md knows of no gain by dropout: more of them still teach


def evaluate(params: Params) -> list[str]:
    device = prepare(params.runtime.device, params.runtime.threads_of_model)
    folder = artifact.chosen(params.evaluate.model, "evaluate.model")
    model = artifact.load(folder)
    if params.evaluate.stride > model.config.n_ctx:
        raise UserError(
            f"params.yaml: evaluate.stride {params.evaluate.stride} is above the context of "
            f"{folder}, {model.config.n_ctx}: tokens between "
            "two windows would not be measured; lower it"
        )
    if not processes.rank():
        with suppress(ValueError, KeyError, TypeError):  # damage there, where another is measured
            if "train" in (made_here := provenance.read(artifact.TRAINED)):
                kept.settle(made_here)
    tokens = tensor.read(TOKENS)
    end_of_text = provenance.read(TOKENS)["tokenize"]["params"]["tokenize"]["end_of_text"]
    corpora = {"held-out": held_out(tokens, model.n_vocab, end_of_text)}
    for path in params.evaluate.extra_corpora:
        documents = corpus.own(params.data, path, key="evaluate.extra_corpora")
        encoded = encode_documents(documents, gpt2_encoding(model.n_vocab), end_of_text)
        corpora[path] = tensor.in_memory(encoded)

    passes = 1 + params.evaluate.dropout_passes  # dropout off, dropout on
    total = passes * sum(len(ids) for ids, _ in corpora.values())
    windows = params.evaluate.batch_size
    advice = (
        f"evaluate.batch_size is {windows}: lower it" if windows > 1 else "take a smaller model"
    )
    with (
        enough_memory(f"evaluate, on {device}", advice),
        slot(device),
        progress("evaluate", "tokens", params.runtime.log_interval, total) as bar,
    ):
        if params.runtime.shard_weights:
            shard(model, device)
        model.to(device)
        measured = {
            name: evaluation.document_losses(model, ids, documents, params.evaluate, bar.update)
            for name, (ids, documents) in corpora.items()
        }
        parameters, n_vocab = sum(p.numel() for p in model.parameters()), model.n_vocab
        del model  # whose turn comes next needs its memory
        torch.cuda.empty_cache()
    if processes.rank():
        return []

    made_from = (
        artifact.past(folder)
        | provenance.read(TOKENS)  # last, since these were measured
        | provenance.record(
            "evaluate",
            {"evaluate": params.evaluate},
            {"tokens": [TOKENS / SUMS]} | artifact.inputs(folder),
            environment(device, torch.float32, params.runtime.shard_weights),
        )
    )
    further = {path: corpora[path][1] for path in params.evaluate.extra_corpora}
    if further:  # by their texts, in which the settings that read them show
        sums = "".join(pd.concat(further.values()).sha256)
        made_from["evaluate"]["inputs"]["corpora"] = hashlib.sha256(sums.encode()).hexdigest()
    summaries = {n: perplexity.summary(found) for n, found in measured.items()}
    summary = summaries.pop("held-out")
    summary["parameters"] = parameters
    trained = made_from.get("train")  # here, not elsewhere
    first = trained["params"]["train"]["tokens"] if trained else None
    summary |= counted(tokens, first, n_vocab == tokens.n_vocab)
    if summaries:
        summary["extra_corpora"] = summaries
    write(measured, summary, made_from)
    often = readings(trained["params"], tokens.n_train) if trained else None
    lines = told(folder, summary, often) + artifact.lines_of_other_tokens(folder, TOKENS)
    return lines + (trained_on.lines(TOKENS, further) if further else [])


def held_out(tokens: TokenTensor, n_vocab: int, end_of_text: bool) -> tuple[Tokens, pd.DataFrame]:
    """The held-out part in a vocabulary of `n_vocab`: its tokens, and a row a document."""
    documents = tokens.held_out_documents.drop(columns="held_out")
    if n_vocab == tokens.n_vocab:
        return tokens.held_out, documents
    # A model from elsewhere reads the same texts in its own tokens.
    texts = decode_documents(tokens.held_out, documents, gpt2_encoding(tokens.n_vocab))
    again = map(Document, texts, documents.id, documents.source)
    return tensor.in_memory(encode_documents(again, gpt2_encoding(n_vocab), end_of_text))


def counted(
    tokens: TokenTensor, first: int | None, same_vocabulary: bool = True
) -> dict[str, float | None]:
    """What counting alone reaches on the held-out part, from the first so many tokens of the
    training part; None: from all.

    Beside a model of another vocabulary, only the bits per byte mean the same: the rest is None.
    """
    tokens_per_byte = len(tokens.held_out) / int(tokens.held_out_documents.bytes.sum())
    found: dict[str, float | None] = {}
    for name, yardstick in (("unigram", unigram_loss), ("trigram", kneser_ney_loss)):
        loss = yardstick(tokens.train[:first], tokens.held_out, tokens.n_vocab)
        found[f"{name}_loss"] = loss if same_vocabulary else None
        found[f"{name}_perplexity"] = math.exp(loss) if same_vocabulary else None
        found[f"{name}_bits_per_byte"] = loss / math.log(2) * tokens_per_byte
    return found


def write(measured: dict[str, pd.DataFrame], summary: dict[str, Any], made_from: Chain) -> None:
    with replacing(Path("data/evaluation")) as partial:
        partial.mkdir()
        table = pd.concat(measured, names=["corpus", None]).reset_index("corpus")
        table.to_parquet(partial / "documents.parquet", index=False)
        write_json(partial / "summary.json", summary)
        provenance.write(made_from, partial)
        seal(partial)
    # What DVC's tables show; more columns would not fit into a terminal.
    headline = ("bits_per_byte", "perplexity", "loss", "loss_dropout_on")
    write_json(
        Path("metrics/evaluate.json"),
        {name: summary[name] for name in headline} | {"trigram": summary["trigram_bits_per_byte"]},
    )


def told(folder: Path, summary: dict[str, Any], often: float | None) -> list[str]:
    """What was measured, beside the yardsticks; `often` the model has read its text, if known."""
    value, interval = perplexity.in_words(summary)
    bits = {n: summary[f"{n}bits_per_byte"] for n in ("", "trigram_", "unigram_")}
    trigram, unigram = (
        f"{bits[n]:.3f}"
        + (f" and {perplexity.number_in_words(found)}" if found is not None else " bits per byte")
        for n in ("trigram_", "unigram_")
        for found in [summary[f"{n}perplexity"]]
    )
    lines = [
        f"{folder}: {summary['loss']:.3f} nats a token, {bits['']:.3f} bits per byte, perplexity "
        f"{value} (95% interval {interval})",
        f"a trigram has {trigram}, the unigram {unigram}: data/evaluation/summary.json",
    ]
    if bits[""] > min(bits["trigram_"], bits["unigram_"]):
        which = "unigram" if bits[""] > bits["unigram_"] else "trigram"
        lines.append(f"it is worse than the {which}, which only counts{advice(often)}")
    return lines


def advice(often: float | None) -> str:
    """What to do where counting the training part tells more than a model that read it."""
    if often is None:
        return " the training part"
    if often > FEW:
        return (
            f", after {often:.1f} readings: take fewer steps, more text, more dropout or a "
            "smaller model"
        )
    return ": take more steps or a smaller model"


if __name__ == "__main__":
    run(evaluate, in_processes=True)
