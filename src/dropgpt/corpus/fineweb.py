"""FineWeb: which data set on the hub `data.source: fineweb` stands for."""

from dropgpt.corpus.hub import Dataset

NAME = "HuggingFaceFW/fineweb"
CONFIG = "CC-MAIN-2013-20"
REVISION = "9bb295ddab0e05d785b879661af7260fed5140fc"  # v1.4.0


def dataset(config: str | None, revision: str | None) -> Dataset:
    """Its `config` at `revision`; None: those above."""
    return Dataset(
        NAME,
        config or CONFIG,
        revision or REVISION,
        split="train",
        text_column="text",
        row="fineweb",
        keeps_empty=True,
    )
