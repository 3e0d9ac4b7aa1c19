"""Running text -> sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator

# After . ! or ? (not an initial's or a letter of an abbreviation), before white space and what begins a sentence;
# after the full stops of Chinese and Japanese; at line breaks.
_ENDS = re.compile(r"(?<=[.!?])(?<!\b\w\.)[\"')\]”’]*\s+(?=[\"'(\[“‘]?[^\W_a-z])|(?<=[。！？])|\n+")


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a document, stripped, without empty ones; a rule of thumb, which abbreviations mislead."""
    start = 0
    for end in _ENDS.finditer(text):
        if sentence := text[start : end.end()].strip():
            yield sentence
        start = end.end()
    if sentence := text[start:].strip():
        yield sentence
