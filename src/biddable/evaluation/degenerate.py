"""Find outputs that say nothing, and outputs that got stuck in a loop.

A list, a poem with a refrain, a table and code repeat themselves too; what tells a loop from them
is that the same words come back with nothing between, or make up most of what there is.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from biddable.evaluation.units import Unit, split_units
from biddable.evaluation.words import fold, words_of

_MARKUP = re.compile(
    r"<\|[^|>\n]{0,40}\|>|</?s>|<(?:pad|eos|bos|unk|end_of_turn)>|\[/?INST\]|```[a-zA-Z]*"
)
_EMPTY_ITEM = re.compile(r"\s*\(?\d{1,3}[.)]\s*")
_SIGNS = frozenset("&%@$€£¥+=[]")  # an answer by themselves; other signs are left over from markup
_RULES = frozenset("-_=*.~#|+·•─–—:<>\\/ \t")  # drawn as lines
_SIGN_LOOP = re.compile(r"(\S{1,8}?)\1{19,}")
# Kana, Han and Thai stand without blanks between words: a loop is one of signs there.
_UNSPACED_LOOP = re.compile(
    r"([\u0e00-\u0e7f\u3001\u3002\u3040-\u30ff\u4e00-\u9fff\uff0c]{2,20}?)\1{4,}"
)
_LONG_LOOP = 20  # signs

_LONGEST_PERIOD = 60  # words
# How often a run of so many words must come back at once to be a loop: (up to words, times).
_TIMES = ((1, 10), (2, 6), (4, 4), (_LONGEST_PERIOD, 3))
# Where an output was cut off a loop may have only begun: so many words at the end, and at least as
# many as the phrase has, that stood just before; (in phrases of up to so many words, how many).
_AT_THE_CUT = ((2, 6), (_LONGEST_PERIOD, 10))
_MANY_LINES, _LINES_SHARE = 5, 0.5  # the same line so often, and this much of all lines
_MANY_WORDS, _NEW_SHARE = 80, 0.4  # in so many words, fewer runs of four that differ than this
_CODE_PATIENCE = 3
_MANY_COUNTED, _LONGEST_COUNTED = 12, 20  # times; words
_NUMBERED = re.compile(r"(\D*)(\d{1,6})")
_ORDERED = re.compile(
    r"\b(?:repeat\w*|say|write|print|copy)\b[^.]{0,60}\btimes\b|\bover and over\b|\brepeatedly\b"
)
_COUNTS = re.compile(r"\b(?:count|number)")
_VERSE = re.compile(
    r"\b(?:poem|song|lyrics|rap|chant|chorus|rhyme|ballad|verse|haiku|jingle|hymn)\b"
)


def find_emptiness(text: str) -> str:
    r"""Say why a text is no answer at all; empty if it is one.

    Example:
        >>> find_emptiness(" \n...")
        'holds no letter, digit or sign'
        >>> find_emptiness("4"), find_emptiness("&")
        ('', '')
    """
    bare = _MARKUP.sub(" ", text)
    lines = [line for line in bare.split("\n") if line.strip()]
    if len(lines) > 1 and all(_EMPTY_ITEM.fullmatch(line) for line in lines):
        return "holds the numbers of a list and no items"
    for sign in bare:
        if sign.isalnum() or sign in _SIGNS or unicodedata.category(sign) == "So":
            return ""
    return "holds no letter, digit or sign" if text.strip() else "nothing was written"


def find_repetition(text: str, instruction: str = "", *, is_cut: bool = False) -> str:
    r"""Say what a text repeats without end; empty if it does not.

    Args:
        text: the whole output.
        instruction: what was asked; where it orders to repeat, or verse, more is allowed.
        is_cut: it did not end by itself, so that what it ends in says more.

    Example:
        >>> find_repetition("It is big. " * 6)
        'repeats at once, 6 times: "it is big"'
        >>> find_repetition("Row, row, row your boat.")
        ''
    """
    asked = fold(instruction)
    patience = 4 if _ORDERED.search(asked) else 2 if _VERSE.search(asked) else 1
    loop = _SIGN_LOOP.search(text)
    if loop is None or _RULES.issuperset(loop[1]):
        loop = next((m for m in _UNSPACED_LOOP.finditer(text) if len(m[0]) >= _LONG_LOOP), None)
    if loop:
        return f'repeats a sign or few without end: "{loop[1]}"'
    units = [unit for unit in split_units(text) if unit.words]
    words, code = (  # without marks of lists
        [word for unit in units if unit.is_code is is_code for word in words_of(unit.bare)]
        for is_code in (False, True)
    )
    return (
        _loop_of_words(words, patience)
        or _loop_of_words(code, max(patience, _CODE_PATIENCE))
        or (_loop_at_the_cut(words, patience) if is_cut and not code else "")
        or ("" if _COUNTS.search(asked) else _loop_that_counts(words))
        or _same_lines(units, patience)
        or ("" if patience > 1 else _little_new(words))
    )


def _loop_of_words(words: Sequence[str], patience: int) -> str:
    for period in range(1, min(_LONGEST_PERIOD, len(words) // 3) + 1):
        needed = next(times for most, times in _TIMES if period <= most) * patience
        run = 0
        for n in range(period, len(words)):
            run = run + 1 if words[n] == words[n - period] else 0
            if run < period * (needed - 1):
                continue
            phrase = words[n - period + 1 : n + 1]
            if any(not word.isdigit() for word in phrase):  # numbers alone are a table
                times = _times(words, n, period)
                start = words[n - period * needed + 1 :][:period]
                return f'repeats at once, {times} times: "{" ".join(start)[:60]}"'
            break
    return ""


def _loop_at_the_cut(words: Sequence[str], patience: int) -> str:
    whole = words[:-1]  # the last one may be a piece of a word
    for period in range(1, min(_LONGEST_PERIOD, len(whole) // 2) + 1):
        run, end = 0, len(whole) - 1
        while end - run - period >= 0 and whole[end - run] == whole[end - run - period]:
            run += 1
        needed = next(least for most, least in _AT_THE_CUT if period <= most) * patience
        phrase = whole[-period:]
        if run >= max(needed, period) and any(not word.isdigit() for word in phrase):
            return f'ends in what it had just said: "{" ".join(whole[-run:])[:60]}"'
    return ""


def _loop_that_counts(words: Sequence[str]) -> str:
    """Find a phrase that comes again and again, nothing new in it but the next number or letter."""
    for period in range(1, min(_LONGEST_COUNTED, len(words) // _MANY_COUNTED) + 1):
        run, counted = 0, -1  # where in the phrase the number stands
        for n in range(period, len(words)):
            if words[n] == words[n - period]:
                run += 1
            elif _is_next(words[n], words[n - period]):
                run = run + 1 if counted in (-1, n % period) else 1
                counted = n % period
            else:
                run, counted = 0, -1
            phrase = words[n - period + 1 : n + 1]
            is_long = run >= period * (_MANY_COUNTED - 1) and counted >= 0
            if is_long and any(len(word) > 1 and not word.isdigit() for word in phrase):
                return f'counts on and on, with nothing new: "{" ".join(phrase)[:60]}"'
    return ""


def _is_next(word: str, before: str) -> bool:
    if len(word) == len(before) == 1 and word.isalpha():
        return ord(word) == ord(before) + 1
    one, other = _NUMBERED.fullmatch(word), _NUMBERED.fullmatch(before)
    return bool(one and other and one[1] == other[1] and int(one[2]) == int(other[2]) + 1)


def _times(words: Sequence[str], at: int, period: int) -> int:
    """Count how often the run that is known at a word comes in all."""
    first, last = at, at
    while first - period >= 0 and words[first] == words[first - period]:
        first -= 1
    while last + 1 < len(words) and words[last + 1] == words[last + 1 - period]:
        last += 1
    return (last - first + period) // period


def _same_lines(units: Sequence[Unit], patience: int) -> str:
    """Find a line or sentence that makes up most of a text, with others between or not."""
    lines = Counter(unit.bare for unit in units if len(unit.words) > 1 and not unit.is_code)
    if not lines:
        return ""
    line, times = lines.most_common(1)[0]
    if times >= _MANY_LINES * patience and times >= _LINES_SHARE * len(units):
        return f'repeats the same line, {times} times: "{line[:60]}"'
    return ""


def _little_new(words: Sequence[str]) -> str:
    if len(words) < _MANY_WORDS:
        return ""
    runs = list(zip(words, words[1:], words[2:], words[3:], strict=False))
    share = len(set(runs)) / len(runs)
    return f"only {share:.0%} of its runs of four words are new" if share < _NEW_SHARE else ""
