"""Which texts that are measured a model has been trained on."""

from pathlib import Path

import pandas as pd

from dropgpt.tokens import tensor
from dropgpt.tokens.encoding import checksum_of_parted
from dropgpt.tokens.statistics import copies_lines
from dropgpt.tokens.vocabulary import gpt2_encoding


def lines(folder: Path, measured: dict[str, pd.DataFrame]) -> list[str]:
    """Warnings of the documents that the training part in `folder` has, whole or begun.

    `measured` are tables of documents, by what they are called.
    """
    tokens = tensor.read(folder)
    parted = checksum_of_parted(tokens.tokens, tokens.documents, gpt2_encoding(tokens.n_vocab))
    found = []
    for name, table in measured.items():
        found += copies_lines(tensor.copies(folder, table), table, f"documents of {name}")
        found += [
            f"warning: {id} of {name} was parted, and its beginning is in the training part"
            for id in table.id[table.sha256 == parted]
        ]
    return found
