import hashlib
import re
from pathlib import Path

import pytest

from conftest import data_params as data
from conftest import message
from dropgpt import corpus
from dropgpt.corpus import wikipedia
from dropgpt.corpus.document import Document
from dropgpt.errors import UserError


@pytest.fixture(scope="module")
def articles() -> list[Document]:
    return list(corpus.documents(data(source="wikipedia")))


def test_wikipedia_has_the_documented_size(articles: list[Document]) -> None:
    assert len(articles) == 1561
    assert 2_600_000 < sum(len(document.text) for document in articles) < 2_700_000
    assert all(len(document.text) >= 200 for document in articles)


def test_wikipedia_documents_belong_to_articles(articles: list[Document]) -> None:
    assert len({document.id for document in articles}) == len(articles)
    assert articles[0].id == "Anarchism#1"
    assert articles[0].text.startswith("Anarchism is a political philosophy that advocates")
    for document in articles:
        assert re.fullmatch(re.escape(document.source) + r"#\d+", document.id)


def test_wikipedia_is_prose(articles: list[Document]) -> None:
    for document in articles:
        assert not re.search(r"\[\[|\]\]|\{\{|\}\}|''|</?ref|^==|\|$", document.text, re.M), (
            document
        )
        assert not re.search(r"^[*#:;]|^\s|\s$|  |\n\n", document.text, re.M), document


def test_wikipedia_is_the_same_each_time(articles: list[Document]) -> None:
    assert list(wikipedia.documents()) == articles


def test_a_damaged_wikipedia_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "enwiki.bz2"
    content = bytearray(wikipedia._wikipedia_path().read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    monkeypatch.setattr(wikipedia, "_wikipedia_path", lambda: damaged)
    with pytest.raises(UserError) as error:
        next(wikipedia.documents())
    assert str(damaged) in message(error)
    assert wikipedia.WIKIPEDIA_SHA256 in message(error)
    assert hashlib.sha256(content).hexdigest() in message(error)
    assert "pip install --force-reinstall gensim==" in message(error)


def test_a_missing_wikipedia_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wikipedia, "_wikipedia_path", lambda: tmp_path / "enwiki.bz2")
    with pytest.raises(UserError, match=r"enwiki\.bz2: No such file.*force-reinstall gensim"):
        next(wikipedia.documents())
