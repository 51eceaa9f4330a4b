"""Cut text into the units that behaviour is read from: sentences, lines and lines of code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from biddable.evaluation.words import fold, words_of

_FENCE = re.compile(r"\s*```")
_CODE_LINE = re.compile(
    r"(?:\t| {4,})\S|\s*(?:def |class |import |from \w[\w.]* import|return\b|print\(|>>>|@\w|#\s*\S"
    r"|(?:if|for|while|else|elif|try|except|with)\b.*:\s*(?:#.*)?$|\w[\w.\[\]]* [-+*/]?= ?\S)"
)
_HEADING = re.compile(r"\s*(?:#{1,6}\s+\S|\*\*[^*]+\*\*:?\s*$|__[^_]+__:?\s*$)")
# After a mark that ends a sentence, with its closing quotes, and before what may start one.
_SENTENCE_END = re.compile(
    r"(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\bMr\.)(?<!\bDr\.)(?<!\bMrs\.)(?<=[.?!…])[\"'”’)\]*]*\s+(?=[^\sa-z])"
)
# A sentence without its mark, run into a question or an order.
_UNMARKED_END = re.compile(
    r"(?<=[a-z0-9'\")])\s+(?=(?:What|Who|Where|When|Why|How|Which|Could|Can) [a-z]+ [^.!\n]*\?"
    r"|(?:Tell|Give|Show) me |Translate |Calculate |Please [a-z]+ )"
)
_LIST_MARK = re.compile(r"^\s*(?:[-*+•–·]|\(?\d{1,3}[.):]|\(?[a-zA-Z][.)])(?=\s|$)\s*")
_QUOTED = re.compile(r"\"[^\"\n]*\"|“[^”\n]*”|«[^»\n]*»|(?<!\w)['‘][^'’\n]*['’](?!\w)|`[^`\n]*`")


@dataclass(frozen=True, slots=True)
class Unit:
    """Hold a sentence, or a line of code.

    Attributes:
        text: as written.
        start: where it starts in the whole text.
        starts_line: whether only blanks or a list mark precede it on its line.
        has_mark: whether it starts with a list mark.
        is_code: whether it is in a fence or looks like code.
        is_heading: whether it is a marked heading.
        bare: without list mark and in lower case, quotes left in.
        folded: as ``bare``, without what is quoted.
        words: its words, folded.
    """

    text: str
    start: int
    starts_line: bool
    has_mark: bool
    is_code: bool
    is_heading: bool
    bare: str
    folded: str
    words: list[str]

    @property
    def is_question(self) -> bool:
        """Whether a question mark outside of quotes ends it."""
        return not self.is_code and self.folded.rstrip(" \t\"'”’)]*_").endswith("?")


def split_units(text: str) -> list[Unit]:
    r"""Cut a text into lines, and lines of prose into sentences.

    Example:
        >>> [unit.text for unit in split_units("It is 4. Is it?\n- Name one.")]
        ['It is 4.', 'Is it?', '- Name one.']
    """
    units: list[Unit] = []
    at, in_fence = 0, False
    for line in text.split("\n"):
        is_fence = _FENCE.match(line) is not None
        is_heading = not in_fence and _HEADING.match(line) is not None
        is_code = in_fence or is_fence or _CODE_LINE.match(line) is not None
        if is_fence:
            in_fence = not in_fence
        if is_code or is_heading:
            units.append(_unit(line, at, True, is_code and not is_heading, is_heading))
        else:
            units += _sentences(line, at)
        at += len(line) + 1
    return [unit for unit in units if unit.text]


def _sentences(line: str, at: int) -> list[Unit]:
    mark = _LIST_MARK.match(line)
    first = mark.end() if mark else 0
    ends = {m.end() for p in (_SENTENCE_END, _UNMARKED_END) for m in p.finditer(line, first)}
    cuts = [0, *sorted(ends), len(line)]
    return [_unit(line[a:b], at + a, a == 0, False, False) for a, b in pairwise(cuts)]


def _unit(text: str, start: int, starts_line: bool, is_code: bool, is_heading: bool) -> Unit:
    start += len(text) - len(text.lstrip())
    text = text.strip()
    unmarked = fold(_LIST_MARK.sub("", text))
    return Unit(
        text=text,
        start=start,
        starts_line=starts_line,
        has_mark=_LIST_MARK.match(text) is not None,
        is_code=is_code,
        is_heading=is_heading,
        bare=unmarked.strip(" \t*_\"'"),
        folded=_QUOTED.sub(" ", unmarked),
        words=words_of(text),
    )
