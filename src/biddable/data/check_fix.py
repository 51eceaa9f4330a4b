"""Mend what is safe to mend in a file of rows, and say what was changed where.

Safe is: white space around a text, control characters, rows without an answer, rows that repeat
another. Everything else stays as it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from biddable.data.check_rows import CONTROL, INVISIBLE
from biddable.data.files import Row
from biddable.data.problems import Problem
from biddable.data.wording import even_blanks

_ASKED = ("instruction", "prompt")
_ANSWERED = ("output", "response", "completion")
_TEXTS = ("system", *_ASKED, "input", "context", *_ANSWERED)
_TURNS = {"messages": "content", "conversations": "value"}
_BLANK_LINES = re.compile(r"\A(?:[ \t]*\r?\n)+")


def fix_rows(
    rows: Sequence[tuple[int, Row]], *, path: str | None = None
) -> tuple[list[Row], list[Problem]]:
    r"""Mend rows.

    Args:
        rows: pairs of line and row, of any known format.
        path: what they are called in messages.

    Returns:
        kept: the rows that stay, mended; keys that hold no text of a conversation are untouched.
        changes: what was done, by line.

    Example:
        >>> kept, changes = fix_rows([(1, {"prompt": "Hi\n", "response": "Hello."})], path="a")
        >>> kept, str(changes[0])
        ([{'prompt': 'Hi', 'response': 'Hello.'}], 'a:1: white space trimmed in "prompt".')
    """
    kept: list[Row] = []
    changes: list[Problem] = []
    seen: dict[str, int] = {}
    for line, row in rows:
        mended, done = _mend(row)
        first = seen.setdefault(_content(mended), line)
        if _lacks_answer(mended):
            changes.append(
                _change("dropped", "dropped: it has no prompt or no answer.", path, line)
            )
        elif first != line:
            text = f"dropped: it says the same as line {first}."
            changes.append(_change("dropped", text, path, line))
        else:
            kept.append(mended)
            changes += [_change(code, text, path, line) for code, text in done]
    return kept, changes


def clean_text(text: str) -> tuple[str, list[str]]:
    r"""Take control characters out of a text and white space off its ends.

    Returns:
        The text, and what was done to it.

    Example:
        >>> clean_text(" a\x07b\n")
        ('ab', ['control characters removed', 'white space trimmed'])
    """
    done = []
    cleaned = CONTROL.sub("", text)
    if cleaned != text:
        done.append("control characters removed")
    trimmed = _BLANK_LINES.sub("", cleaned.rstrip())
    # The first line keeps its indentation where others are indented too, as in code.
    if not re.search(r"\n[ \t]", trimmed):
        trimmed = trimmed.lstrip()
    if trimmed != cleaned:
        done.append("white space trimmed")
    return trimmed, done


def _mend(row: Row) -> tuple[Row, list[tuple[str, str]]]:
    mended = dict(row)
    done: list[tuple[str, str]] = []
    for key in _TEXTS:
        if isinstance(row.get(key), str):
            mended[key], what = clean_text(row[key])
            done += [("mended", f'{text} in "{key}".') for text in what]
    for key, inner in _TURNS.items():
        if isinstance(row.get(key), list):
            mended[key], told = _mend_turns(row[key], inner)
            done += [("mended", text) for text in told]
    return mended, done


def _mend_turns(turns: Sequence[Any], key: str) -> tuple[list[Any], list[str]]:
    mended, done = [], []
    for index, turn in enumerate(turns, start=1):
        if isinstance(turn, Mapping) and isinstance(turn.get(key), str):
            text, what = clean_text(turn[key])
            mended.append({**turn, key: text})
            done += [f"{told} in message {index}." for told in what]
        else:
            mended.append(turn)
    return mended, done


def _lacks_answer(row: Row) -> bool:
    for keys in (_ASKED, _ANSWERED):
        texts = [row[key] for key in keys if isinstance(row.get(key), str)]
        if texts and all(map(INVISIBLE.fullmatch, texts)):
            return True
    for key, inner in _TURNS.items():
        turns = row.get(key)
        if isinstance(turns, list):
            last = turns[-1] if turns else {}
            text = last.get(inner) if isinstance(last, Mapping) else None
            calls = isinstance(last, Mapping) and last.get("tool_calls")
            is_empty = isinstance(text, str) and bool(INVISIBLE.fullmatch(text))
            return not turns or (is_empty and not calls)
    return False


def _content(row: Row) -> str:
    """Give what two rows share that say the same; other keys, such as an id, may differ."""
    parts = {key: value for key, value in _parts(row) if value} or row
    return json.dumps(parts, sort_keys=True, ensure_ascii=False)


def _parts(row: Row) -> Iterator[tuple[str, Any]]:
    for key in (*_TEXTS, "text"):
        if isinstance(row.get(key), str):
            yield key, even_blanks(row[key])
    for key, inner in _TURNS.items():
        if isinstance(row.get(key), list):
            yield key, [_evened(turn, inner) for turn in row[key]]
    if row.get("tools"):
        yield "tools", row["tools"]


def _evened(turn: Any, key: str) -> Any:
    if isinstance(turn, Mapping) and isinstance(turn.get(key), str):
        return {**turn, key: even_blanks(turn[key])}
    return turn


def _change(code: str, text: str, path: str | None, line: int) -> Problem:
    return Problem(code, text, path, line, None, "warning")
