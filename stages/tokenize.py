"""data/documents.parquet -> the token tensor in data/tokens, and the corpus in numbers"""

from pathlib import Path

from dropgpt.corpus import document
from dropgpt.machine.files import replacing, write_json
from dropgpt.machine.progress import progress
from dropgpt.params import Params
from dropgpt.tokens import tensor
from dropgpt.tokens.vocabulary import gpt2_encoding
from stages import run


def tokenize(params: Params) -> list[str]:
    encoding = gpt2_encoding(params.tokenize.vocabulary_size)
    documents = progress(
        "tokenize",
        "documents",
        params.runtime.log_interval,
        iterable=document.read(Path("data/documents.parquet")),
    )
    fraction = params.tokenize.validation_fraction
    encoded = tensor.encode(documents, encoding, params.tokenize.end_of_text)
    tensor.write(
        tensor.parted(encoded, encoding, fraction),
        Path("data/tokens"),
        encoding.n_vocab,
        fraction,
        # Not of which code: a change that leaves the tokens as they are shall train nothing again.
        # The source is there for the sake of its licence.
        {
            "tokenize": {
                "params": {
                    "data": {"source": params.data.source},
                    "tokenize": params.tokenize.model_dump(),
                }
            }
        },
    )

    tokens = tensor.read(Path("data/tokens"))
    counts = tensor.count(tokens.tokens, tokens.n_vocab)
    statistics = tensor.statistics(tokens, counts)
    write_json(Path("data/statistics.json"), statistics)
    with replacing(Path("metrics/rank_frequency.csv")) as partial:
        tensor.rank_frequency(counts, encoding).to_csv(partial, index=False)
    return [
        f"{len(tokens.tokens):,} tokens, {statistics['unique_tokens']:,} unique: data/tokens",
        *tensor.held_out_lines(tokens, fraction),
    ]


if __name__ == "__main__":
    run(tokenize)
