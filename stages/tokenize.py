"""data/documents.parquet -> the token tensor in data/tokens, and the vocabulary's statistics"""

from pathlib import Path

from dropgpt import document, tokens
from dropgpt.files import replacing, write_json
from dropgpt.params import Params
from dropgpt.progress import progress
from dropgpt.vocabulary import gpt2_encoding
from stages import run


def tokenize(params: Params) -> None:
    encoding = gpt2_encoding()
    documents = progress(
        "tokenize",
        "documents",
        params.runtime.log_interval,
        iterable=document.read(Path("data/documents.parquet")),
    )
    tokens.write(
        tokens.encode(documents, encoding, params.tokenize.end_of_text),
        Path("data/tokens"),
        params.tokenize.validation_fraction,
    )

    tensor = tokens.read(Path("data/tokens"))
    counts = tokens.count(tensor.tokens)
    write_json(Path("metrics/tokens.json"), tokens.statistics(tensor, counts))
    with replacing(Path("metrics/rank_frequency.csv")) as partial:
        tokens.rank_frequency(counts, encoding).to_csv(partial, index=False)


if __name__ == "__main__":
    run(tokenize)
