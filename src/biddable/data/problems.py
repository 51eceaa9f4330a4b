"""Say what is wrong with a row: where it stands, what was found, and what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike, fspath
from typing import Any, Literal, NoReturn

from biddable.errors import DataError, join_problems


@dataclass(frozen=True, slots=True)
class Problem:
    """Hold one finding about one row.

    Attributes:
        code: short and stable, for programs: ``empty-text``, ``near-duplicate``.
        message: what was found, what is allowed, what to do.
        path: the file, if there is one.
        line: 1-based line in that file.
        message_index: 1-based message in that row, where it is about one.
        severity: whether the row cannot be learned from, or is to be looked at.
    """

    code: str
    message: str
    path: str | None = None
    line: int | None = None
    message_index: int | None = None
    severity: Literal["error", "warning"] = "error"

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain values, for a program to read."""
        place = {"file": self.path, "line": self.line}
        return {**place, "code": self.code, "message": self.message}

    def __str__(self) -> str:
        """Put the place in front.

        Example:
            >>> str(Problem("empty-text", "empty response.", path="train.jsonl", line=412))
            'train.jsonl:412: empty response.'
        """
        return str(DataError(self.message, path=self.path, line=self.line))


def kind_of(value: Any) -> str:
    """Say what a value is, in words.

    Example:
        >>> kind_of(3), kind_of([]), kind_of({"a": 1})
        ('a number', 'an empty list', 'an object')
    """
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", str: "a text"}
    names |= {list: "a list", dict: "an object"}
    kind = type(value)
    return "an empty list" if value == [] else names.get(kind, f"a value of type {kind.__name__}")


def keys_of(row: Mapping[str, Any]) -> str:
    """List a row's keys for a message.

    Example:
        >>> keys_of({"prompt": 1, "reply": 2})
        'keys "prompt", "reply"'
    """
    return "keys " + ", ".join(f'"{key}"' for key in row) if row else "no keys"


def either(choices: Sequence[str]) -> str:
    """List what is allowed.

    Example:
        >>> either(["system", "user", "assistant"])
        'system, user or assistant'
    """
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"


def fold(problems: Sequence[Problem], *, max_lines: int = 5) -> list[str]:
    """Say each finding once, and name the further lines that have it.

    Different ones come first: what differs from an earlier one in its numbers alone waits.

    Args:
        problems: in the order of the rows.
        max_lines: further lines that are named, of one finding.

    Example:
        >>> fold([Problem("x", "empty.", "a.jsonl", line) for line in (1, 2, 5)])
        ['a.jsonl:1: empty. (So are 2 more rows: lines 2, 5.)']
    """
    same: dict[tuple[str | None, str], list[Problem]] = {}
    for problem in problems:
        same.setdefault((problem.path, problem.message), []).append(problem)
    kinds: set[str] = set()
    firsts: list[str] = []
    alike: list[str] = []
    for first, *others in same.values():
        lines = [str(problem.line) for problem in others if problem.line is not None]
        text = str(first)
        if others:
            rows = "1 more row" if len(others) == 1 else f"{len(others):,} more rows"
            named = ", ".join(lines[:max_lines]) + (" and so on" if len(lines) > max_lines else "")
            text += f" (So {'is' if len(others) == 1 else 'are'} {rows}"
            text += f": line{'' if len(lines) == 1 else 's'} {named}.)" if lines else ".)"
        kind = re.sub(r"\d+", "", first.message)
        (alike if kind in kinds else firsts).append(text)
        kinds.add(kind)
    return firsts + alike


def raise_all(problems: Sequence[Problem], *, path: str | PathLike[str] | None = None) -> NoReturn:
    """Raise the first problem with its place; others follow it, a line each, the same ones folded.

    Args:
        problems: at least one, in the order of the rows.
        path: the file of those that name none.

    Raises:
        DataError: always.
    """
    placed = [replace(p, path=fspath(p.path or path or "") or None) for p in problems]
    first = placed[0]
    place = str(replace(first, message=""))
    text, *others = fold(placed)
    raise DataError(
        join_problems([text.removeprefix(place), *others]),
        path=first.path,
        line=first.line,
        message_index=first.message_index,
    )
