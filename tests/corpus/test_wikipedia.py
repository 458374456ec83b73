import hashlib
import re
from dataclasses import replace
from importlib.metadata import distribution
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
    """Openings, then the sections of whole articles."""
    return list(corpus.documents(data(source="wikipedia")))


def test_wikipedia_has_the_documented_size(articles: list[Document]) -> None:
    openings, sections = articles[:-1561], articles[-1561:]
    assert len(openings) == 9987
    assert {document.id.split("#")[-1] for document in openings} == {"opening"}
    assert 4_600_000 < sum(len(document.text) for document in openings) < 5_000_000
    assert 2_600_000 < sum(len(document.text) for document in sections) < 2_700_000
    assert all(len(document.text) >= 200 for document in sections)


def test_wikipedia_documents_belong_to_articles(articles: list[Document]) -> None:
    assert len({document.id for document in articles}) == len(articles)
    assert articles[0].id == "20th-century classical music#opening"
    assert articles[9987].id == "Anarchism#1"
    assert articles[9987].text.startswith("Anarchism is a political philosophy that advocates")
    for document in articles:
        assert re.fullmatch(re.escape(document.source) + r"#(\d+|opening)", document.id)


def test_no_opening_is_of_an_article_that_is_there(articles: list[Document]) -> None:
    assert not {d.source for d in articles[:9987]} & {d.source for d in articles[9987:]}


def test_openings_share_no_passages_with_what_is_held_out(articles: list[Document]) -> None:
    """No document has more than 2% of its runs of eight words in the ten last articles."""

    def runs(document: Document) -> list[tuple[str, ...]]:
        words = document.text.split()
        return [tuple(words[i : i + 8]) for i in range(len(words) - 7)]

    last = list(dict.fromkeys(document.source for document in articles))[-10:]
    held_out = {run for d in articles[9987:] if d.source in last for run in runs(d)}
    for document in articles[:9987]:
        own = runs(document)
        assert sum(run in held_out for run in own) <= 0.02 * len(own), document


def test_wikipedia_is_prose(articles: list[Document]) -> None:
    for document in articles:
        assert not re.search(r"\[\[|\]\]|\{\{|\}\}|''|</?ref|^==|\|$", document.text, re.M), (
            document
        )
        assert not re.search(r"^[*#:;]|^\s|\s$|  |\n\n", document.text, re.M), document


def test_wikipedia_is_the_same_each_time(articles: list[Document]) -> None:
    assert list(wikipedia.documents()) == articles


@pytest.mark.parametrize("name", ["ARTICLES", "OPENINGS"])
def test_a_damaged_wikipedia_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = getattr(wikipedia, name)
    content = bytearray(Path(str(distribution(part.package).locate_file(part.path))).read_bytes())
    content[len(content) // 2] ^= 1
    damaged = tmp_path / Path(part.path).name
    damaged.write_bytes(content)
    monkeypatch.setattr(wikipedia, name, replace(part, path=str(damaged)))
    with pytest.raises(UserError) as error:
        next(wikipedia.documents())
    assert str(damaged) in message(error)
    assert part.sha256 in message(error)
    assert hashlib.sha256(content).hexdigest() in message(error)
    assert f"pip install --force-reinstall {part.package}==" in message(error)


def test_a_missing_wikipedia_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    part = wikipedia.ARTICLES
    monkeypatch.setattr(wikipedia, "ARTICLES", replace(part, path="gensim/enwiki.bz2"))
    with pytest.raises(UserError, match=r"enwiki\.bz2: No such file.*force-reinstall gensim"):
        next(wikipedia.documents())
    monkeypatch.setattr(wikipedia, "ARTICLES", replace(part, package="no-such-package"))
    with pytest.raises(UserError, match=r"no-such-package, .* run `pip install no-such-package`"):
        next(wikipedia.documents())
