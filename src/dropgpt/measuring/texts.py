"""The texts that `dropgpt measure` measures on."""

import re
from pathlib import Path

from dropgpt import corpus
from dropgpt.corpus import formats, own_files
from dropgpt.corpus.document import Document
from dropgpt.errors import UserError
from dropgpt.params import Params
from dropgpt.tokens import tensor
from dropgpt.tokens.encoding import decode_documents
from dropgpt.tokens.vocabulary import END_OF_TEXT, gpt2_encoding

TOKENS = Path("data/tokens")


def of_files(
    texts: list[Path], here: Params | None, text_column: str | None, separator: str | None
) -> list[Document]:
    """The documents of files, wherever they lie, as asked for, or else as params.yaml has it."""
    if missing := [path for path in texts if not path.is_file()]:
        what = "no such file"
        if re.search(r"[*?\[]", str(missing[0])):
            what += "; without quotation marks the shell makes names of it"
        if missing[0].exists():
            what = f"a {'folder' if missing[0].is_dir() else 'pipe or a device'}: name files"
        raise UserError(f"{missing[0]}: {what}")
    if text_column is None:
        text_column = here.data.text_column if here else "text"
    set_by = "--separator"
    if separator is None:
        separator = here.data.separator if here else END_OF_TEXT
        set_by = "data.separator" if here else "the usual separator"
    found = own_files.read(texts, text_column, separator or None, "TEXT", set_by)
    try:
        if here and not here.data.deduplicate:
            return list(found)
        return list(
            corpus.each_once(
                found, "the TEXTs", "data.deduplicate: false in params.yaml keeps them"
            )
        )
    except UserError as error:  # it may name the setting of a params.yaml, which need not be there
        raise UserError(str(error).replace(formats.SETTING, "--text-column")) from None


def held_out() -> list[Document]:
    """The held-out part of data/tokens."""
    if not TOKENS.is_dir():
        raise UserError(
            f"measure: name files with texts to measure on; without, it takes {TOKENS}, which is "
            "not here (`dvc repro tokenize` in the project's root makes it)"
        )
    tokens = tensor.read(TOKENS)
    rows = tokens.held_out_documents
    texts = decode_documents(tokens.held_out, rows, gpt2_encoding(tokens.n_vocab))
    return list(map(Document, texts, rows.id, rows.source))
