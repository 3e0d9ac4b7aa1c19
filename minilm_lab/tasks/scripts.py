"""What takes the place of words in scripts that put no spaces between them: characters, as the field counts there."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable

SPACELESS = "Chinese, Japanese, Korean, Thai, Lao, Khmer, Burmese, Tibetan"
"""What `by_characters` knows. Korean has spaces, but its scores are those of characters too (KorQuAD)."""
_CHARACTER = re.compile(
    "([\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han, kana
    "\u1100-\u11ff\uac00-\ud7af\u0e00-\u0eff\u1780-\u17ff\u1000-\u109f\u0f00-\u0fff])"  # Hangul, Thai to Tibetan
)
_SAMPLE = 1000


def by_characters(texts: Iterable[str]) -> bool:
    """Whether most letters of (the first thousand of) these texts are of scripts that are scored by characters."""
    letters = spaceless = 0
    for _, text in zip(range(_SAMPLE), texts, strict=False):
        spaceless += len(_CHARACTER.findall(text))
        letters += sum(map(str.isalpha, text))
    return spaceless > letters / 2


def latin(texts: Iterable[str]) -> bool:
    """Whether most letters of (the first thousand of) these texts are a to z."""
    letters = plain = 0
    for _, text in zip(range(_SAMPLE), texts, strict=False):
        plain += len(re.findall("[A-Za-z]", text))
        letters += sum(map(str.isalpha, text))
    return plain >= letters / 2


def is_punctuation(character: str) -> bool:
    """Whether this is punctuation, in ASCII (symbols too) or in Unicode."""
    return character in string.punctuation or unicodedata.category(character).startswith("P")


def apart(text: str) -> str:
    """The text with a space around each character of such a script, so that `split` gives characters and words."""
    return _CHARACTER.sub(r" \1 ", text)


def words(text: str) -> list[str]:
    """Words and, of such scripts, characters, in lower case and without punctuation."""
    return apart("".join(" " if is_punctuation(c) else c for c in text.lower())).split()
