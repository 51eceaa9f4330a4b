"""Cut text into words and compare them, the one way in which this room does it."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"'})


def fold(text: str) -> str:
    """Make texts that differ in case, kind of quotes or composition of accents equal.

    Example:
        >>> fold("Ça va, It’s") == "ça va, it's"
        True
    """
    return unicodedata.normalize("NFC", text).translate(_APOSTROPHES).casefold()


def words_of(text: str) -> list[str]:
    """List the words of a text, folded, without punctuation.

    Example:
        >>> words_of("I can't: it's 2 + 2!")
        ['i', "can't", "it's", '2', '2']
    """
    return _WORD.findall(fold(text))


def num_words(text: str) -> int:
    """Count what stands between blanks and holds a letter or digit.

    Example:
        >>> num_words("2 + 2 = 4")
        3
    """
    return sum(any(c.isalnum() for c in part) for part in text.split())


def has_phrase(text: str, phrase: str) -> bool:
    """Tell whether a phrase occurs in a text as whole words; accents count, case does not.

    Example:
        >>> has_phrase("El niño come.", "niño"), has_phrase("El nino come.", "niño")
        (True, False)
        >>> has_phrase("a catalogue", "cat")
        False
    """
    return _phrase_pattern(phrase).search(fold(text)) is not None


@lru_cache(maxsize=4096)
def _phrase_pattern(phrase: str) -> re.Pattern[str]:
    parts = r"\s+".join(re.escape(part) for part in fold(phrase).split())
    return re.compile(rf"(?<!\w){parts}(?!\w)")


def half_pair_problem(text: str) -> str:
    """Say that a text has half of a surrogate pair, which no UTF-8 file can hold; else empty.

    Example:
        >>> half_pair_problem("a\\ud83d"), half_pair_problem("\U0001f600")
        ('has half of a surrogate pair (as \\\\ud83d alone); write the whole sign.', '')
    """
    if text.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in text):
        return ""
    return "has half of a surrogate pair (as \\ud83d alone); write the whole sign."
