"""Say of each token of a text what kind it is, by the text alone.

The kinds are rough on purpose: they tell form (punctuation, line starts, little words) from
content, which is what one wants to know of a change. Little words are known for English only.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Sequence

from biddable.evaluation.words import fold, words_of

CLASSES = (
    "control token",
    "white space",
    "code",
    "line start",
    "digits",
    "punctuation",
    "function word",
    "content word",
    "rest of a word",
)
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
FUNCTION_WORDS = frozenset(
    words_of("""
    a about above across after again against all almost along already also although always am among
    an and another any are around as at away be because been before behind being below beneath
    beside between beyond both but by can cannot could did do does done down during each either
    else enough even ever every few for from further had has have he her here hers herself him
    himself his how however i if in inside into is it its itself just least less like many may me
    might mine more most much must my myself near neither never no none nor not now of off often on
    once one only onto or other others our ours out outside over own past perhaps quite rather same
    shall she should since so some still such than that the their theirs them themselves then there
    therefore these they this those though through throughout thus to together too toward towards
    under until up upon us very was we were what when where whether which while who whom whose why
    will with within without would yet you your yours yourself
    """)
)


def token_classes(
    text: str, spans: Sequence[tuple[int, int]], *, is_code: bool = False
) -> list[str]:
    """Name the kind of each token of a text.

    Args:
        text: what the tokens were cut from.
        spans: of each token, its first character and the one after its last.
        is_code: all of the text is code; else only what stands between fences of three backticks.

    Returns:
        One of ``CLASSES`` each; the first that fits, in their order. ``control token`` is for ids
        that stand for no text, which the caller knows.

    Example:
        >>> token_classes("The cat, 2", [(0, 3), (3, 7), (7, 8), (8, 10)])
        ['line start', 'content word', 'punctuation', 'digits']
    """
    words = [match.span() for match in _WORD.finditer(text)]
    starts = [start for start, _ in words]
    fenced = [(0, len(text))] if is_code else [match.span() for match in _FENCED.finditer(text)]
    return [_class_of(text, span, words=words, starts=starts, fenced=fenced) for span in spans]


def _class_of(
    text: str,
    span: tuple[int, int],
    *,
    words: Sequence[tuple[int, int]],
    starts: Sequence[int],
    fenced: Iterable[tuple[int, int]],
) -> str:
    piece = text[span[0] : span[1]]
    core = piece.strip()
    if not core:
        return "white space"
    first = span[0] + len(piece) - len(piece.lstrip())
    if any(start <= first < end for start, end in fenced):
        return "code"
    if not text[text.rfind("\n", 0, first) + 1 : first].strip():
        return "line start"
    if any(c.isdigit() for c in core):
        return "digits"
    letter = next((first + n for n, c in enumerate(core) if c.isalpha()), None)
    if letter is None:
        return "punctuation"
    number = bisect.bisect_right(starts, letter) - 1
    if number < 0 or letter >= words[number][1]:
        return "content word"  # a letter of a script whose words are not known here
    start, end = words[number]
    if start < letter:
        return "rest of a word"
    return "function word" if fold(text[start:end]) in FUNCTION_WORDS else "content word"
