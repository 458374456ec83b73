"""data/documents.parquet -> the token tensor in data/tokens, and the corpus in numbers"""

import csv
from pathlib import Path

from dropgpt import corpus, unread
from dropgpt.corpus import document, hub_shards
from dropgpt.errors import UserError, counted, warn
from dropgpt.machine.files import replacing, write_json
from dropgpt.machine.progress import progress
from dropgpt.params import Params
from dropgpt.tokens import shards, tensor
from dropgpt.tokens.encoding import encode_documents, part_long
from dropgpt.tokens.statistics import (
    copies_lines,
    count_tokens,
    describe,
    held_out_lines,
    rank_frequency,
)
from dropgpt.tokens.vocabulary import gpt2_encoding
from stages import check_inputs, run

DOCUMENTS = Path("data/documents.parquet")
TOKENS = Path("data/tokens")


def tokenize(params: Params) -> list[str]:
    encoding = gpt2_encoding(params.tokenize.vocabulary_size)
    fraction = params.tokenize.validation_fraction
    about = document.about(DOCUMENTS)
    last = about.get("held_out")  # of documents or, where they are in shards, of those
    wanted = corpus.settings(params.data)
    if about.get("data", wanted) != wanted:
        raise UserError(
            f"{DOCUMENTS} has the texts of data.source={about['data']['source']} as it stood "
            "when they were made, and params.yaml says otherwise: run the stage download_fineweb "
            "first (`dvc repro` does)"
        )
    # Not of which code: a change that leaves the tokens as they are shall train nothing again.
    card = {"card": about["card"]} if "card" in about else {}
    settings = {"data": wanted, "tokenize": params.tokenize.model_dump()}
    made_from = {"tokenize": {"params": settings} | card}
    if params.data.in_shards:
        made = shards.make(params.data, params.tokenize, params.runtime)
        tensor.join(made, TOKENS, encoding.n_vocab, fraction, made_from, last)
    else:
        documents = progress(
            "tokenize",
            "documents",
            params.runtime.log_interval,
            iterable=document.read(DOCUMENTS),
        )
        encoded = encode_documents(documents, encoding, params.tokenize.end_of_text)
        if last is None:
            encoded = part_long(encoded, encoding, fraction)
        tensor.write(encoded, TOKENS, encoding.n_vocab, fraction, made_from, last)

    tokens = tensor.read(TOKENS)
    counts = count_tokens(tokens.tokens, tokens.n_vocab)
    statistics = describe(tokens, counts, tensor.tables(TOKENS, "tokens", "bytes"))
    write_json(Path("data/statistics.json"), statistics)
    with replacing(Path("metrics/rank_frequency.csv")) as partial:
        table = rank_frequency(counts, encoding)
        # Quoted, since not every version of Python does so with a carriage return.
        table.to_csv(partial, index=False, quoting=csv.QUOTE_NONNUMERIC)
    left_out = []
    if params.data.in_shards:
        rows = sum(shard.documents for shard in hub_shards.read(DOCUMENTS))
        if empty := rows - statistics["documents"]:
            left_out = [f"left out as empty: {counted(empty, 'row')}"]
    for line in unread.lines(unread.of_tokenize(params.data), tokenize=params.tokenize):
        warn(line)
    held_out = tokens.held_out_documents
    lines = [
        f"{len(tokens.tokens):,} tokens, {statistics['unique_tokens']:,} unique: data/tokens",
        *left_out,
        *held_out_lines(tokens, fraction if last is None else None, statistics["documents"]),
        *copies_lines(tensor.copies(TOKENS, held_out), held_out, "held-out documents"),
    ]
    if params.data.in_shards:  # last, and not where the old parameters may come back
        check_inputs()
        shards.forget(made)
    return lines


if __name__ == "__main__":
    run(tokenize)
