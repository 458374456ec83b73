"""The slice of English Wikipedia that gensim carries as test data (CC BY-SA)."""

import bz2
import hashlib
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from dropgpt.corpus.document import Document
from dropgpt.errors import UserError

WIKIPEDIA_FILE = (
    "test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
)
WIKIPEDIA_SHA256 = "a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d"
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
    """The sections of the articles in gensim's slice of Wikipedia: 1,561 documents.

    Headings and list items are left out, and so is a section of less than 200 characters.
    Raises UserError if the file is not the one that these numbers belong to.
    """
    from gensim.corpora.wikicorpus import extract_pages, filter_wiki

    path = _wikipedia_path()
    mend = f"run `pip install --force-reinstall gensim=={metadata.version('gensim')}`"
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; {mend}") from None
    if found != WIKIPEDIA_SHA256:
        raise UserError(f"{path}: sha256 is {found}, not {WIKIPEDIA_SHA256}; {mend}")
    with bz2.open(path) as dump:
        for title, wikitext, _ in extract_pages(dump):  # a redirect is one list item, so no text
            texts = map(_prose, HEADING.split(filter_wiki(wikitext)))
            sections = (text for text in texts if len(text) >= SHORTEST_SECTION)
            for n, text in enumerate(sections, 1):
                yield Document(text, f"{title}#{n}", title)


def _wikipedia_path() -> Path:
    import gensim

    return Path(gensim.__file__).parent / WIKIPEDIA_FILE


def _prose(section: str) -> str:
    """The paragraphs of a section as filter_wiki leaves it, one a line."""
    for pattern, replacement in LEFTOVERS:
        section = pattern.sub(replacement, section)
    lines = (" ".join(line.split()) for line in section.split("\n"))
    return "\n".join(
        line for line in lines if not line.startswith(LIST_ITEM) and re.search(r"\w", line)
    )
