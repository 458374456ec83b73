"""What a page, in Markdown or in HTML, can show of any text."""

import re


def printable(text: str) -> str:
    """The same with one kind of line end, and a sign in place of each control character."""
    lines = re.sub(r"\r\n?", "\n", text)
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", lines)
