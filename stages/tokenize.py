"""data/documents.parquet -> the token tensor in data/tokens, and the corpus in numbers"""

from pathlib import Path

from dropgpt.corpus import document
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
from stages import run

TOKENS = Path("data/tokens")


def tokenize(params: Params) -> list[str]:
    encoding = gpt2_encoding(params.tokenize.vocabulary_size)
    fraction = params.tokenize.validation_fraction
    # Not of which code: a change that leaves the tokens as they are shall train nothing again.
    # The source is there for the sake of its licence.
    data = {"source"}
    if params.data.all_of_fineweb:
        data |= {"documents", "config", "revision"}
    sections = {
        "data": params.data.model_dump(include=data),
        "tokenize": params.tokenize.model_dump(),
    }
    made_from = {"tokenize": {"params": sections}}
    if params.data.all_of_fineweb:
        made = shards.make(params.data, params.tokenize, params.runtime)
        tensor.join(made, TOKENS, encoding.n_vocab, fraction, made_from)
    else:
        documents = progress(
            "tokenize",
            "documents",
            params.runtime.log_interval,
            iterable=document.read(Path("data/documents.parquet")),
        )
        encoded = encode_documents(documents, encoding, params.tokenize.end_of_text)
        parted = part_long(encoded, encoding, fraction)
        tensor.write(parted, TOKENS, encoding.n_vocab, fraction, made_from)

    tokens = tensor.read(TOKENS)
    counts = count_tokens(tokens.tokens, tokens.n_vocab)
    statistics = describe(tokens, counts, tensor.tables(TOKENS, "tokens", "bytes"))
    write_json(Path("data/statistics.json"), statistics)
    with replacing(Path("metrics/rank_frequency.csv")) as partial:
        rank_frequency(counts, encoding).to_csv(partial, index=False)
    if params.data.all_of_fineweb:
        shards.forget(made)
    held_out = tokens.documents[tokens.documents.held_out]
    return [
        f"{len(tokens.tokens):,} tokens, {statistics['unique_tokens']:,} unique: data/tokens",
        *held_out_lines(tokens, fraction, statistics["documents"]),
        *copies_lines(tensor.copies(TOKENS, held_out), held_out, "held-out documents"),
    ]


if __name__ == "__main__":
    run(tokenize)
