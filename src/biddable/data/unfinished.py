"""Tell an answer that was cut from one that ends as it was meant to.

Some cuts show by themselves: an open block, an open bracket, a last word after which more has to
come. Others show only beside the rest: an answer without a full stop is nothing special, unless
nearly all other answers of the file end with one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from biddable.data.conversation import Conversation
from biddable.data.wording import split_words

_FENCE = re.compile(r"^\s*```(?!.*```)", re.MULTILINE)
_OPEN_END = re.compile(r"(?:[,\[{—–]|(?<![:;])(?<![:;]-)\()\s*\Z")
_OPEN_WORD = re.compile(
    r"[a-z,;] (?:the|an|of|and|or|with|from|because|which|whose|their|our|your|its|my|than"
    r"|such as|as well as|due to)\s*\Z"
)
_CLOSING = "\"”’»)\\]}*_`'"
_SENTENCE_END = re.compile(rf"[.!?…。！？।؟:;][{_CLOSING}]*(?:\s|\Z)")
_FULL_STOP = re.compile(r"[.!?…。！？।؟]\s")
_WORD_END = re.compile(r"(?:^|[\s(\"“‘'*_/-])[A-Za-zÀ-ÿ'’-]*[a-zß-ÿ]-?\s*\Z")
_LIST_ITEM = re.compile(r"\s*(?:[-*•#>|–]|\(?(?:\d+|[A-Za-z]|[ivxIVX]+)[.):-]|\[)")
_CODE = re.compile(r"```|[{};=<>|\\]|^\s*(?:def|import|SELECT|class|#)\b", re.MULTILINE)
_STRINGS = re.compile(r'"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\'|[:;]-?\(')
_MIN_WORDS = 5  # of an answer; shorter ones are words, names, titles
_MIN_LAST = 4  # words of the last sentence
_MIN_AFTER_OTHERS = 2  # where others stand before it on its line
_MIN_STOPPED = 8  # sentences; fewer say nothing about what is usual
_MAX_OPEN = 0.08  # of the sentences, or two; where more lack a stop, that is the writers' way


def ends_with_stops(conversations: Iterable[Conversation]) -> bool:
    """Tell whether nearly all answers of a file that are sentences end with a full stop.

    Args:
        conversations: the rows.
    """
    num_closed = num_all = 0
    for row in conversations:
        for message in row.messages:
            if message.role == "assistant" and message.learn:
                last = message.content.rstrip().rpartition("\n")[2]
                if is_sentence(message.content, last):
                    num_all += 1
                    num_closed += not _WORD_END.search(last)
    is_known = num_closed >= _MIN_STOPPED
    return is_known and num_all - num_closed <= max(2, _MAX_OPEN * num_all)


def is_sentence(answer: str, last: str) -> bool:
    """Tell whether the last line of an answer is running text: no list, code, name or title."""
    if not answer.lstrip()[:1].isupper() or last[:1].isspace():
        return False
    if len(split_words(answer)) < _MIN_WORDS or _LIST_ITEM.match(last) or _CODE.search(last):
        return False
    *before, rest = _SENTENCE_END.split(last.rstrip())
    words = (rest or (before[-1] if before else "")).split()
    if not words or "/" in words[-1]:
        return False
    least = _MIN_AFTER_OTHERS if rest and _FULL_STOP.search(last) else _MIN_LAST
    return len(words) >= least and not _is_title(words) and not _is_enumeration(words)


def unfinished(answer: str, *, is_usual_to_stop: bool = False) -> str:
    """Say how an answer shows that it was cut; empty if it does not.

    Args:
        answer: its text.
        is_usual_to_stop: see ``ends_with_stops``.

    Example:
        >>> unfinished("It is the largest of all the lakes in the")
        'ends in the middle of a sentence ("... all the lakes in the")'
    """
    if len(_FENCE.findall(answer)) % 2:
        return "opens a block of code (```) and never closes it"
    if opened := _open_json(answer) or _open_bracket(answer):
        return f'opens a "{opened}" and never closes it'
    last = answer.rstrip().rpartition("\n")[2]
    is_closing = "\n" in answer.strip() and len(split_words(last)) <= 6  # as of a letter
    if not _CODE.search(last):
        if _OPEN_END.search(last) and not is_closing:
            return f'ends with "{last.rstrip()[-1]}"'
        if _OPEN_WORD.search(last) and len(last) > 30:
            return f'ends in the middle of a sentence ("... {last[-20:]}")'
    if _WORD_END.search(last):
        if _is_prose(answer, last):
            where = "where its other sentences have one"
            return f'ends without a full stop ("... {last[-20:]}"), {where}'
        if is_usual_to_stop and is_sentence(answer, last) and not _is_verse(answer):
            where = "where nearly all answers of the file have one"
            return f'ends without a full stop ("... {last[-20:]}"), {where}'
        if _is_listed_apart(answer, last):
            where = "where the other points have one"
            return f'ends without a full stop ("... {last[-20:]}"), {where}'
    return ""


def _open_json(answer: str) -> str:
    """Name the sign that opens a JSON text which is never closed."""
    text = answer.strip()
    if text[:1] not in ("{", "[") or not re.match(r"[\[{]\s*[\[{\"\d]", text):
        return ""
    try:
        json.loads(text)
    except ValueError:
        bare = _STRINGS.sub("", text)
        opened = sum(map(bare.count, "{[")) - sum(map(bare.count, "}]"))
        return text[0] if opened > 0 else ""
    except RecursionError:
        pass
    return ""


def _open_bracket(answer: str) -> str:
    """Name a bracket of the last line that is open at the end of the answer."""
    last = _STRINGS.sub("", answer.rstrip().rpartition("\n")[2])
    opened: list[str] = []
    for sign in last:
        if sign in "([{":
            opened.append(sign)
        elif sign in ")]}" and opened:
            opened.pop()
    ends = _SENTENCE_END.search(last[-3:])
    return opened[-1] if opened and not ends else ""


def _is_prose(answer: str, last: str) -> bool:
    """Tell whether the writer ends sentences, and the last line is a long one that does not."""
    sentences = len(_SENTENCE_END.findall(answer))
    num_words = len(split_words(answer))
    in_last = len(split_words(_SENTENCE_END.split(last)[-1]))
    is_one = "\n" not in answer.strip() or bool(_SENTENCE_END.search(last))
    is_listed = bool(_LIST_ITEM.match(last))
    return sentences >= 3 and num_words >= 30 and in_last >= 4 and is_one and not is_listed


def _is_listed_apart(answer: str, last: str) -> bool:
    """Tell whether the last point of a list lacks the full stop that all others have."""
    points = [line for line in answer.rstrip().split("\n")[:-1] if _LIST_ITEM.match(line)]
    stopped = [line for line in points if _SENTENCE_END.search(line.rstrip()[-3:])]
    return bool(_LIST_ITEM.match(last)) and len(points) >= 2 and len(stopped) == len(points)


def _is_title(words: list[str]) -> bool:
    """Tell whether all longer words have a capital."""
    longer = [word for word in words if len(word) > 3]
    return bool(longer) and all(word[0].isupper() for word in longer)


def _is_enumeration(words: list[str]) -> bool:
    """Tell whether commas part the words into short items."""
    num_items = sum(word.endswith(",") for word in words) + 1
    return num_items >= 3 and len(words) <= 3 * num_items


def _is_verse(answer: str) -> bool:
    """Tell whether other lines end without a stop as well."""
    lines = [line for line in answer.strip().split("\n")[:-1] if line.strip()]
    return any(_WORD_END.search(line) for line in lines)
