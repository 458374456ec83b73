"""Which documents are held out: whole ones, at the end of the corpus.

The last articles, and so many that they have at least the fraction of the tokens that is asked; or
so many documents as the corpus itself says, where a split of a data set is there to be held out.
What is too long for that, `encoding.part_long` has made two documents of; not in shards.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd

from dropgpt.errors import UserError
from dropgpt.tokens import articles


def last(table: pd.DataFrame, number: int) -> npt.NDArray[np.bool_]:
    """Whether each document of `table` is among the last `number`, (documents,)."""
    return np.arange(len(table)) >= len(table) - number


def chosen(table: pd.DataFrame, total: int, fraction: float) -> npt.NDArray[np.bool_]:
    """Whether each document of `table` is held out, (documents,): a tail, from an article's begin.

    Where all are of one article, from a document's. Of a corpus of `total` tokens, `table` has all
    documents, or the last ones. Raises UserError where nothing would be left to train on.
    """
    before = (total - table.tokens[::-1].cumsum()[::-1]).to_numpy()
    begins = articles.begins(table.source)
    what = "article" if table.source.nunique() > 1 else "document"
    possible = np.flatnonzero(begins & (before > 0) & (before < total))
    fitting = possible[before[possible] <= (1 - fraction) * total]
    if not len(fitting):
        advice = "take more text"
        if len(possible):
            most = 1 - before[possible[0]] / total
            advice = f"lower it to {0.995 * most:.3g}, or take more documents"  # rounded down
        raise UserError(
            f"params.yaml: tokenize.validation_fraction {fraction} holds out every {what} of a "
            f"corpus of {int(begins.sum())}, of {total} tokens; {advice}"
        )
    return last(table, len(table) - int(fitting[-1]))


def rows(tables: Iterable[pd.DataFrame], total: int, fraction: float) -> pd.DataFrame:
    """The rows that `chosen` would choose, where the table of all documents is in parts.

    `tables` are the parts, the last one first; no more of them are asked for than are needed.
    """
    tail = pd.DataFrame()
    for table in tables:
        tail = pd.concat([table, tail], ignore_index=True)
        before = total - tail.tokens[::-1].cumsum()
        begins = tail.source != tail.source.shift().fillna(tail.source)
        if (begins & (before <= (1 - fraction) * total)).any():
            break
    tail["held_out"] = chosen(tail, total, fraction)
    return tail[tail.held_out].reset_index(drop=True)
