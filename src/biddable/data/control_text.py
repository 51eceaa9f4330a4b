"""Keep what a row says apart from what a template writes, through a rendering that gives text only.

A control token that a row spells is swapped for one private-use sign that the row does not hold.
The rendering then has control tokens only where the template wrote them; afterwards each sign
becomes its text again, and stays text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from biddable.errors import TemplateError

_HALF_PAIR = re.compile("[\ud800-\udfff]")
_PRIVATE_USE = (range(0xE000, 0xF900), range(0xF0000, 0xFFFFE))


def any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """Match any of some texts, the longest first; of none, nothing.

    Example:
        >>> any_of(["<s>", "<s>x"]).findall("a<s>x<s>")
        ['<s>x', '<s>']
    """
    longest_first = sorted(set(texts), key=lambda text: (-len(text), text))
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def strings_of(value: Any) -> Iterator[str]:
    """Give every text in a value as JSON has it, keys too.

    Example:
        >>> list(strings_of({"a": ["b", 1, {"c": None}]}))
        ['a', 'b', 'c']
    """
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from strings_of(key)
            yield from strings_of(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from strings_of(item)


def map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """Rebuild a value as JSON has it with every text in it changed, keys too.

    Example:
        >>> map_strings({"a": ["b", 1]}, str.upper)
        {'A': ['B', 1]}
    """
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {map_strings(k, change): map_strings(v, change) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [map_strings(item, change) for item in value]
    return value


class StandIns:
    """Hold the signs that stand for the control tokens which one row spells."""

    def __init__(self, texts: Iterable[str], tokens: re.Pattern[str]) -> None:
        """Find the spelled tokens, and a free sign for each.

        Args:
            texts: all that the row says.
            tokens: matches a control token.

        Raises:
            TemplateError: a text has half of a surrogate pair.
        """
        joined = "\0".join(texts)
        if _HALF_PAIR.search(joined):
            raise TemplateError(
                "a text has half of a surrogate pair (as \\ud83d alone); write the whole sign."
            )
        self._tokens = tokens
        spelled = sorted(set(tokens.findall(joined)))
        used = set(joined) if spelled else set()
        free = (chr(c) for c in chain(*_PRIVATE_USE) if chr(c) not in used)
        self._signs = dict(zip(spelled, free, strict=False))

    def put(self, text: str) -> str:
        """Swap the spelled tokens for their signs."""
        return self._tokens.sub(lambda m: self._signs[m[0]], text) if self._signs else text

    def take_back(self, text: str) -> str:
        """Swap the signs for what they stand for, also where JSON wrote them as escapes."""
        for token, sign in self._signs.items():
            text = text.replace(sign, token)
            escaped = json.dumps(sign)[1:-1]
            if escaped in text:
                text = text.replace(escaped, json.dumps(token)[1:-1])
        return text
