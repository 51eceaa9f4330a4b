"""Name the row formats, and recognise the one of a file by looking at many of its rows.

A row may fit several formats (Alpaca's own file has a ``text`` column too), so the file's format
is the one that most of its rows fit, and of equals the one that says most about them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from biddable.counting import counted
from biddable.data.problems import Problem, either, keys_of
from biddable.errors import ConfigError, nearest

RECOGNISED_ROWS = 2_000
MIXED = "mixed"
# What a row of each format has; what says more about a row comes first.
FORMATS: dict[str, tuple[str, ...]] = {
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "output"),
    "instruction-response": ("instruction", "response"),
    "prompt-completion": ("prompt", "completion"),
    "prompt-response": ("prompt", "response"),
    "text": ("text",),
}
_LISTS = {"messages", "conversations"}
# What others call the two; said in messages only, never assumed.
_ASKED = ("instruction", "question", "q", "query", "prompt", "input", "user", "human", "request")
_ANSWERED = (
    "response",
    "answer",
    "a",
    "reply",
    "output",
    "completion",
    "assistant",
    "bot",
    "target",
)


@dataclass(frozen=True, slots=True)
class Recognised:
    """Say what the rows of a file were taken for.

    Attributes:
        path: the file.
        format: a name in ``FORMATS``, or ``mixed``; None if no row fits one.
        num_rows: rows in the file, those with problems included.
        num_fitting: rows that have the keys of the format.
        is_given: whether the format was told, not found.
    """

    path: str
    format: str | None
    num_rows: int
    num_fitting: int
    is_given: bool = False

    def summary(self) -> str:
        """Say it in one line.

        Example:
            >>> Recognised("train.jsonl", "alpaca", 1100, 1099).summary()
            'train.jsonl: 1,100 rows, recognised as alpaca (1,099 of 1,100)'
        """
        rows = f"{self.path}: {counted(self.num_rows, 'row')}"
        if self.format is None:
            return f"{rows}, of no known format"
        how = "read" if self.is_given else "recognised"
        if not self.is_given and 2 * self.num_fitting <= self.num_rows:
            fitting = f"{self.num_fitting:,} of {counted(self.num_rows, 'row')}"
            return f"{rows}, taken for {self.format}, which only {fitting} are"
        return f"{rows}, {how} as {self.format} ({self.num_fitting:,} of {self.num_rows:,})"


def recognise(rows: Iterable[Mapping[str, Any]]) -> str | None:
    """Find the format that most rows fit.

    Args:
        rows: many, never the first alone.

    Returns:
        Its name; None if no row fits any.

    Example:
        >>> recognise([{"instruction": "a", "output": "b", "text": "ab"}, {"text": "c"}])
        'text'
        >>> recognise([{"question": "a", "answer": "b"}]) is None
        True
    """
    num_typed = dict.fromkeys(FORMATS, 0)
    num_keyed = dict.fromkeys(FORMATS, 0)
    for row in rows:
        for name in FORMATS:
            if fits(row, name):
                num_keyed[name] += 1
                num_typed[name] += _is_typed(row, name)
    best = max(FORMATS, key=lambda name: (num_typed[name], num_keyed[name]))
    return best if num_keyed[best] else None


def fits(row: Mapping[str, Any], name: str) -> bool:
    """Tell whether a row has the keys of a format; of ``mixed``, those of any."""
    if name == MIXED:
        return any(row.keys() >= set(keys) for keys in FORMATS.values())
    return row.keys() >= set(FORMATS[name])


def wrong_keys(row: Mapping[str, Any], name: str | None) -> str:
    """Say which keys a row has, and which its format expects.

    Args:
        row: it lacks some.
        name: the file's format; None if it is not known.
    """
    formats = list(FORMATS.values()) if name in (None, MIXED) else [FORMATS[str(name)]]
    known = {key for keys in formats for key in keys}
    hints = (nearest(key, known - row.keys()) for key in row if key not in known)
    expected = either([" and ".join(f'"{key}"' for key in keys) for keys in formats])
    hint = _renamed(row) if name in (None, MIXED) else ""
    hint = hint or next(filter(None, hints), "")
    other = None if name in (None, MIXED) else recognise([row])
    if other is not None:
        hint = (
            f" The row is of the format {other}, and the file was taken for {name}. Keep the two in"
            " files of their own, or have each row read by itself: data.format: mixed (--from"
            " mixed)."
        )
    return f"has {keys_of(row)}; expected {expected}.{hint}"


def _renamed(row: Mapping[str, Any]) -> str:
    """Say what a question's and an answer's keys should be called; empty if they are not seen."""
    by_lower = {key.lower(): key for key in row}
    asked = next((by_lower[key] for key in _ASKED if key in by_lower), None)
    answered = next((by_lower[key] for key in _ANSWERED if key in by_lower), None)
    if asked is None or answered is None:
        return ""
    pairs = ((asked, "instruction"), (answered, "response"))
    renames = [f'"{old}" to "{new}"' for old, new in pairs if old != new]
    return f" Rename {' and '.join(renames)}." if renames else ""


def require_format(name: str | None) -> None:
    """Refuse the name of a format that there is not.

    Raises:
        ConfigError: it is neither a format nor ``mixed``.
    """
    known = [*FORMATS, MIXED]
    if name is not None and name not in known:
        raise ConfigError(f'no format "{name}"; known: {", ".join(known)}.{nearest(name, known)}')


def misfit(row: Mapping[str, Any], name: str | None, path: str | None, line: int) -> Problem:
    """Make the problem of a row that lacks keys."""
    return Problem("wrong-keys", wrong_keys(row, name), path, line)


def _is_typed(row: Mapping[str, Any], name: str) -> bool:
    return all(isinstance(row[key], list if key in _LISTS else str | list) for key in FORMATS[name])
