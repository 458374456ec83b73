"""A model and data/tokens -> held-out perplexity, and the loss of each document"""

import math
from pathlib import Path

import pandas as pd
import torch

from dropgpt import evaluation
from dropgpt.corpus import own_files
from dropgpt.errors import UserError
from dropgpt.machine.files import replacing, write_json
from dropgpt.machine.hardware import enough_memory, environment, prepare
from dropgpt.machine.progress import progress
from dropgpt.machine.slot import slot
from dropgpt.model import artifact
from dropgpt.params import Params
from dropgpt.tokens import tensor
from dropgpt.tokens.vocabulary import END_OF_TEXT, gpt2_encoding
from stages import run


def evaluate(params: Params) -> None:
    device = prepare(params.runtime)
    model = artifact.chosen(params.evaluate.model, "evaluate.model")
    if params.evaluate.stride > model.config.n_ctx:
        raise UserError(
            f"params.yaml: evaluate.stride {params.evaluate.stride} is above the context of "
            f"{params.evaluate.model or artifact.TRAINED}, {model.config.n_ctx}: tokens between "
            "two windows would not be measured; lower it"
        )
    tokens = tensor.read(Path("data/tokens"))
    held_out = tokens.documents[tokens.documents.held_out].drop(columns="held_out")
    corpora = {"held-out": (tokens.held_out, held_out)}
    for path in params.evaluate.extra_corpora:
        documents = own_files.documents(path, "text", END_OF_TEXT, key="evaluate.extra_corpora")
        corpora[path] = tensor.in_memory(
            tensor.encode(documents, gpt2_encoding(), params.tokenize.end_of_text)
        )

    passes = 1 + params.evaluate.dropout_passes  # dropout off, dropout on
    total = passes * sum(len(ids) for ids, _ in corpora.values())
    advice = f"evaluate.batch_size is {params.evaluate.batch_size}: lower it"
    with (
        enough_memory(f"evaluate, on {device}", advice),
        slot(device),
        progress("evaluate", "tokens", params.runtime.log_interval, total) as bar,
    ):
        model.to(device)
        measured = {
            name: evaluation.document_losses(model, ids, documents, params.evaluate, bar.update)
            for name, (ids, documents) in corpora.items()
        }

    with replacing(Path("data/evaluation.parquet")) as partial:
        table = pd.concat(measured, names=["corpus", None]).reset_index("corpus")
        table.to_parquet(partial, index=False)
    summaries = {n: evaluation.summary(found, params.evaluate) for n, found in measured.items()}
    unigram = evaluation.unigram_loss(tokens.train, tokens.held_out)
    write_json(
        Path("metrics/evaluate.json"),
        summaries.pop("held-out")
        | {"unigram_loss": unigram, "unigram_perplexity": math.exp(unigram)}
        | ({"extra_corpora": summaries} if summaries else {}),
    )
    write_json(Path("metrics/environment/evaluate.json"), environment(device, torch.float32))


if __name__ == "__main__":
    run(evaluate)
