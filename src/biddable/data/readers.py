"""Read a file of rows into conversations, and say with file and line what is wrong with it.

A file is JSON lines, or one JSON array of objects, in UTF-8. Its format is the one that most of its
rows fit. All problems are gathered and raised once; no row is skipped in silence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from biddable.data.conversation import ROLES, Conversation, Message
from biddable.data.problems import Problem
from biddable.errors import DataError, join_problems, nearest

Row = dict[str, Any]

# The keys each format needs. A row of pairs may also have "system", and "input" or "context".
_MESSAGES = ("messages",)
_FORMATS = (
    _MESSAGES,
    ("instruction", "output"),
    ("instruction", "response"),
    ("prompt", "completion"),
    ("prompt", "response"),
)
_INPUT_KEYS = ("input", "context")
_BLANK = re.compile(r"\s*")


def read_conversations(path: str | Path) -> list[Conversation]:
    """Read an instruction file of any known format.

    Args:
        path: JSON lines or a JSON array; rows of ``{"instruction", "output"}`` with an optional
            ``"input"`` (Alpaca), ``{"instruction", "response"}``, ``{"prompt", "completion"}``,
            ``{"prompt", "response"}`` or ``{"messages": [{"role", "content"}]}``.

    Returns:
        One conversation a row, in file order; each ends with an answer.

    Raises:
        DataError: the file cannot be read, is empty, or has rows that are not as above.
    """
    return conversations_from_rows(read_rows(path), path=str(path))


def read_rows(path: str | Path) -> list[tuple[int, Row]]:
    """Read the objects of a JSONL file or a JSON array, whatever their keys are.

    Args:
        path: the file.

    Returns:
        Pairs of (1-based line on which the row starts, row).

    Raises:
        DataError: the file is missing, empty, not UTF-8 or not JSON, or has rows that are not
            objects.
    """
    text = _read_text(Path(path))
    rows: list[tuple[int, Any]]
    if text.lstrip().startswith("["):
        rows, problems = _parse_array(text)
    else:
        rows, problems = _parse_lines(text)
    problems += [
        Problem(
            "not-a-row", f"{_kind(row)} instead of a row; expected an object {{...}}.", line=line
        )
        for line, row in rows
        if not isinstance(row, dict)
    ]
    if problems:
        _raise(path, problems)
    if not rows:
        raise DataError("has no rows; expected JSON lines or a JSON array of objects.", path=path)
    return rows


def conversations_from_rows(
    rows: Sequence[tuple[int, Row]], *, path: str | None = None
) -> list[Conversation]:
    """Turn rows that are already in memory into conversations.

    Args:
        rows: pairs of (1-based line, row), all of one format.
        path: what the rows are called in messages; a file name as a rule.

    Returns:
        One conversation a row, in order; each ends with an answer.

    Raises:
        DataError: a row lacks keys, has an empty text, or is not a conversation that ends with an
            answer.
    """
    conversations, problems = examine_rows(rows, path=path)
    if problems:
        _raise(path, problems)
    return conversations


def examine_rows(
    rows: Sequence[tuple[int, Row]], *, path: str | None = None
) -> tuple[list[Conversation], list[Problem]]:
    """Turn the rows that can be into conversations, and say what is wrong with the others.

    Args:
        rows: pairs of (1-based line, row), all of one format.
        path: what the rows are called in messages; a file name as a rule.

    Returns:
        conversations: of the rows without a problem, in order.
        problems: of the others, in order.
    """
    keys = max(_FORMATS, key=lambda fmt: sum(row.keys() >= set(fmt) for _, row in rows))
    is_known = any(row.keys() >= set(keys) for _, row in rows)
    problems: list[Problem] = []
    conversations = []
    for line, row in rows:
        if not row.keys() >= set(keys):
            text = _wrong_keys(row, [keys] if is_known else _FORMATS)
            problems.append(Problem("wrong-keys", text, path, line))
            continue
        messages, found = _messages(row) if keys == _MESSAGES else _pair(row, *keys)
        if found:
            problems += [Problem("bad-text", text, path, line, index) for index, text in found]
            continue
        category = row.get("category")
        conversations.append(
            Conversation(
                tuple(messages), path, line, category if isinstance(category, str) else None
            )
        )
    return conversations, problems


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        beside = (entry.name for entry in path.parent.glob("*")) if path.parent.is_dir() else ()
        raise DataError(f"no such file.{nearest(path.name, beside)}", path=path) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}.", path=path) from error
    if not data.strip():
        raise DataError(
            "the file is empty; expected JSON lines or a JSON array of objects.", path=path
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        byte = error.object[error.start]
        raise DataError(
            f"byte 0x{byte:02x} is not UTF-8; save the file as UTF-8"
            " (from Latin-1, for one: iconv -f latin1 -t utf-8 OLD > NEW).",
            path=path,
            line=line,
        ) from None


def _parse_lines(text: str) -> tuple[list[tuple[int, Any]], list[Problem]]:
    rows: list[tuple[int, Any]] = []
    problems: list[Problem] = []
    # Not splitlines(): a string may hold U+2028, which JSON does not count as a line's end.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append((number, json.loads(line)))
        except json.JSONDecodeError as error:
            problems.append(Problem("not-json", _not_json(error), line=number))
    if problems and _is_one_object(text):
        hint = "one object fills the whole file; expected an object on each line, or [...] of them."
        return [], [Problem("not-json", hint, line=1)]
    return rows, problems


def _parse_array(text: str) -> tuple[list[tuple[int, Any]], list[Problem]]:
    """Parse element by element, to know the line on which each one starts."""
    decoder = json.JSONDecoder()
    rows: list[tuple[int, Any]] = []
    at = _skip_blank(text, text.index("[") + 1)
    line, counted = 1, 0
    closed = text.startswith("]", at)
    try:
        while not closed:
            line, counted = line + text.count("\n", counted, at), at
            row, at = decoder.raw_decode(text, at)
            rows.append((line, row))
            at = _skip_blank(text, at)
            closed = text.startswith("]", at)
            if not closed and not text.startswith(",", at):
                raise json.JSONDecodeError("Expecting ',' or ']'", text, at)
            at = _skip_blank(text, at + 1) if not closed else at
        if _skip_blank(text, at + 1) != len(text):
            raise json.JSONDecodeError("Extra data after ']'", text, at + 1)
    except json.JSONDecodeError as error:
        return [], [Problem("not-json", _not_json(error), line=error.lineno)]
    return rows, []


def _skip_blank(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    return blank.end() if blank else at


def _is_one_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except json.JSONDecodeError:
        return False


def _pair(row: Row, asked: str, answered: str) -> tuple[list[Message], list[tuple[None, str]]]:
    problems = [_text_problem(row[key], f'"{key}"') for key in (asked, answered)]
    extra = dict.fromkeys(("system", *_INPUT_KEYS), "")
    for key in extra:
        value = row.get(key)
        if value is not None and not (isinstance(value, str) and not value.strip()):
            problems.append(_text_problem(value, f'"{key}"'))
            extra[key] = value
    found = [(None, text) for text in problems if text]
    if found:
        return [], found
    given = "\n\n".join(extra[key] for key in _INPUT_KEYS if extra[key])
    messages = [Message("system", extra["system"])] if extra["system"] else []
    messages += [Message("user", row[asked], input=given), Message("assistant", row[answered])]
    return messages, []


def _messages(row: Row) -> tuple[list[Message], list[tuple[int | None, str]]]:
    given = row["messages"]
    if not isinstance(given, list) or not given:
        return [], [(None, f'"messages" holds {_kind(given)}; expected a list of messages.')]
    messages: list[Message] = []
    problems: list[tuple[int | None, str]] = []
    for index, entry in enumerate(given, start=1):
        text = _message_problem(entry, index)
        if text:
            problems.append((index, text))
        else:
            messages.append(Message(entry["role"], entry["content"], entry.get("learn", True)))
    if not problems and messages[-1].role != "assistant":
        role = messages[-1].role
        problems.append(
            (len(given), f"ends with a message of the {role}; add the answer, or delete it.")
        )
    return messages, problems


def _message_problem(entry: Any, index: int) -> str:
    if not isinstance(entry, dict) or not entry.keys() >= {"role", "content"}:
        found = _keys(entry) if isinstance(entry, dict) else _kind(entry)
        return f'message {index} has {found}; expected "role" and "content".'
    role = entry["role"]
    if role not in ROLES:
        hint = nearest(role, ROLES) if isinstance(role, str) else ""
        return f"message {index} has role {json.dumps(role)}; expected {_either(ROLES)}.{hint}"
    if not isinstance(entry.get("learn", True), bool):
        return f'message {index} has "learn" {json.dumps(entry["learn"])}; expected true or false.'
    return _text_problem(entry["content"], f"message {index} ({role})")


def _text_problem(value: Any, where: str) -> str:
    if not isinstance(value, str):
        return f"{where} holds {_kind(value)}; expected text."
    if not value.strip():
        return f"{where} is empty; fill it in, or delete the row."
    if any("\ud800" <= char <= "\udfff" for char in value):
        return f"{where} has half of a surrogate pair (as \\ud83d alone); write the whole sign."
    return ""


def _wrong_keys(row: Row, formats: Iterable[Sequence[str]]) -> str:
    known = {key for keys in formats for key in keys}
    hints = (nearest(key, known - row.keys()) for key in row if key not in known)
    expected = _either([" and ".join(f'"{key}"' for key in keys) for keys in formats])
    return f"has {_keys(row)}; expected {expected}.{next(filter(None, hints), '')}"


def _keys(row: Row) -> str:
    if not row:
        return "no keys"
    return "keys " + ", ".join(f'"{key}"' for key in row)


def _either(choices: Sequence[str]) -> str:
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", str: "a text"}
    names |= {list: "a list", dict: "an object"}
    return "an empty list" if value == [] else names[type(value)]


def _not_json(error: json.JSONDecodeError) -> str:
    return f"not JSON at column {error.colno} ({error.msg}); expected an object {{...}}."


def _raise(path: str | Path | None, problems: Sequence[Problem]) -> NoReturn:
    """Raise the first problem with its place; the others follow it, a line each."""
    first, *others = sorted(problems, key=lambda problem: problem.line or 0)
    rest = [str(DataError(other.message, path=path, line=other.line)) for other in others]
    raise DataError(
        join_problems([first.message, *rest]),
        path=path,
        line=first.line,
        message_index=first.message_index,
    )
