"""Documents, from FineWeb, Wikipedia or your files -> data/documents.parquet"""

from pathlib import Path

from dropgpt import corpus
from dropgpt.corpus import document
from dropgpt.machine.progress import progress
from dropgpt.params import Params
from stages import run


def download_fineweb(params: Params) -> None:
    found = progress(
        "download_fineweb",
        "documents",
        params.runtime.log_interval,
        total=params.data.documents if params.data.source == "fineweb" else None,
        iterable=corpus.documents(params.data),
    )
    document.write(found, Path("data/documents.parquet"))


if __name__ == "__main__":
    run(download_fineweb)
