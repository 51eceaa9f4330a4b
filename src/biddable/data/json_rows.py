"""Read JSON rows from a stream, one at a time: a value on each line, or one array of values.

JSON is taken by its word: a key given twice, NaN, Infinity and numbers too large for a float are
problems of their row, since every way to read on would change it. Memory holds one row.
"""

from __future__ import annotations

import codecs
import io
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from biddable.data.problems import Problem
from biddable.errors import DataError

UTF8_MARK = b"\xef\xbb\xbf"
# UTF-32 first: in little-endian it starts as UTF-16 does.
_OTHER_MARKS = (
    *((mark, "UTF-32") for mark in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)),
    *((mark, "UTF-16") for mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)),
)
EMPTY = "the file is empty; expected JSON lines or a JSON array of objects."
_CHUNK = 2**20
_BLANK = re.compile(r"[ \t\n\r]*")
_LONGEST_LITERAL = len("-Infinity")
_IS_TABLE = (
    "looks like CSV: its first line is a header, and no JSON; rename the file to end in .csv."
)
_IS_ONE_OBJECT = "one object fills the whole file; expected an object on each line, or [...] of"


@dataclass(frozen=True, slots=True)
class Limits:
    """Say how much a file may ask for before it is taken for an attack or a mistake.

    Attributes:
        max_file_bytes: what a compressed file may hold; one that is not compressed has no limit.
        max_line_bytes: the longest row.
        max_ratio: how many times larger than itself a compressed file may be, past 256 MiB.
    """

    max_file_bytes: int = 8 * 2**30
    max_line_bytes: int = 64 * 2**20
    max_ratio: int = 200


class StrictDecoder:
    """Decode JSON, and note what has no one meaning instead of choosing one."""

    def __init__(self) -> None:
        """Start with no faults."""
        self.faults: list[str] = []
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_float=self._float,
            parse_constant=self._constant,
        )

    def decode(self, text: str, at: int = 0) -> tuple[Any, int]:
        """Decode the value that starts at a place, and say where it ends.

        Raises:
            JSONDecodeError: it is not JSON.
            ValueError: a whole number is longer than Python reads, or the nesting is too deep.
        """
        self.faults.clear()
        try:
            return self._decoder.raw_decode(text, at)
        except RecursionError:
            raise ValueError("nested too deeply") from None

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            self.faults.append(f'the key "{twice}" is given twice; keep one of the two.')
        return made

    def _float(self, text: str) -> float:
        value = float(text)
        if math.isinf(value):
            self.faults.append(f"the number {text[:40]} is too large to be kept.")
        return value

    def _constant(self, name: str) -> None:
        self.faults.append(f"{name} is no JSON value; write null or a number.")


def parse_value(text: str, decoder: StrictDecoder) -> tuple[Any, str]:
    """Parse one JSON value that fills a text.

    Returns:
        value: None if there is a problem.
        problem: what is wrong; empty if nothing is.

    Example:
        >>> parse_value('{"a": 1}', StrictDecoder())
        ({'a': 1}, '')
        >>> parse_value('{"a": 1, "a": 2}', StrictDecoder())
        (None, 'the key "a" is given twice; keep one of the two.')
    """
    try:
        value, end = decoder.decode(text, _skip_blank(text, 0))
        if _skip_blank(text, end) != len(text):
            raise json.JSONDecodeError("Extra data", text, end)
    except json.JSONDecodeError as error:
        return None, not_json(error.msg, error.colno)
    except ValueError as error:
        return None, _not_readable(error)
    return (None, decoder.faults[0]) if decoder.faults else (value, "")


def iter_json(
    stream: io.BufferedReader, path: str, *, limits: Limits
) -> Iterator[tuple[int, Any] | Problem]:
    """Read JSON lines, or the elements of one array; which it is shows in the first character.

    Args:
        stream: at the file's start.
        path: what messages call it.
        limits: the longest row that is taken.

    Yields:
        Pairs of (1-based line on which the value starts, value), or what is wrong with it.

    Raises:
        DataError: the file is empty, a row is longer than the limit, or bytes of an array are not
            UTF-8.
    """
    skipped, first = _to_first_sign(stream)
    if not first:
        raise DataError(EMPTY, path=path)
    if first == b"[":
        yield from _iter_array(stream, path, line=1 + skipped, limits=limits)
        return
    decoder = StrictDecoder()
    is_first = True
    for line, raw in iter_lines(stream, path, limits=limits, first=1 + skipped):
        if not raw.strip():
            continue
        try:
            value, text = parse_value(raw.decode("utf-8"), decoder)
        except UnicodeDecodeError as error:
            yield Problem("not-utf8", not_utf8(error), path, line)
            continue
        if text and is_first and _fills_the_file(raw, stream, path, limits):
            yield Problem("not-json", f"{_IS_ONE_OBJECT} them.", path, line)
            return
        if text and is_first and _looks_like_table(raw, stream):
            yield Problem("not-json", _IS_TABLE, path, line)
            return
        is_first = False
        yield Problem("not-json", text, path, line) if text else (line, value)


def iter_lines(
    stream: io.BufferedReader, path: str, *, limits: Limits, first: int = 1
) -> Iterator[tuple[int, bytes]]:
    """Read lines with their number, none longer than the limit.

    Not ``splitlines``: a text may hold U+2028, which JSON does not count as a line's end.

    Raises:
        DataError: a line is longer than the limit.
    """
    number = first
    while line := stream.readline(limits.max_line_bytes + 1):
        if len(line) > limits.max_line_bytes:
            raise too_long(path, number, limits)
        yield number, line
        number += 1


def too_long(path: str, line: int, limits: Limits) -> DataError:
    """Make the error for a row over the limit."""
    return DataError(
        f"a row is longer than {limits.max_line_bytes:,} bytes; split it, or raise max_line_bytes.",
        path=path,
        line=line,
    )


def not_utf8(error: UnicodeDecodeError) -> str:
    """Say which byte is not UTF-8, and what to do."""
    return (
        f"byte 0x{error.object[error.start]:02x} is not UTF-8; save the file as UTF-8"
        " (from Latin-1, for one: iconv -f latin1 -t utf-8 OLD > NEW)."
    )


def refuse_other_unicode(head: bytes, path: str) -> None:
    """Refuse a file that says in its first bytes that it is UTF-16 or UTF-32.

    Raises:
        DataError: it starts with the mark of one.
    """
    for mark, name in _OTHER_MARKS:
        if head.startswith(mark):
            raise DataError(
                f"is {name}, as its first bytes say; expected UTF-8. Save it as UTF-8:"
                f" iconv -f {name} -t UTF-8 OLD > NEW",
                path=path,
            )


def not_json(reason: str, column: int) -> str:
    """Say where a row stops to be JSON."""
    return f"not JSON at column {column} ({reason}); expected an object {{...}}."


def _not_readable(error: ValueError) -> str:
    if "digits" in str(error):
        return "a whole number has more digits than can be read; write it as text."
    return f"not JSON that can be read ({error}); flatten the row."


def _skip_blank(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    return blank.end() if blank else at


def _to_first_sign(stream: io.BufferedReader) -> tuple[int, bytes]:
    """Go to the first character that is not blank; return the lines passed, and it."""
    if stream.peek(3)[:3] == UTF8_MARK:
        stream.read(3)
    lines = 0
    while chunk := stream.peek():
        rest = chunk.lstrip(b" \t\r\n")
        passed = stream.read(len(chunk) - len(rest))
        lines += passed.count(b"\n")
        if rest:
            return lines, rest[:1]
    return lines, b""


def _fills_the_file(raw: bytes, stream: io.BufferedReader, path: str, limits: Limits) -> bool:
    """Tell whether one object goes on to the end of the file; reads ahead only if it may."""
    if not raw.lstrip().startswith(b"{") or not stream.seekable():
        return False
    at = stream.tell()
    rest = stream.read(limits.max_line_bytes)
    stream.seek(at)
    if not rest.strip():
        return False  # one line is a row, whatever else is wrong with it
    try:
        return isinstance(json.loads(raw + rest), dict)
    except (ValueError, RecursionError):
        return False


def _looks_like_table(raw: bytes, stream: io.BufferedReader) -> bool:
    """Tell whether a first line that is no JSON parts names, and the next is no JSON either."""
    follows = stream.peek(1).lstrip()
    has_names = any(delimiter in raw for delimiter in (b",", b";", b"\t"))
    return has_names and not raw.lstrip().startswith(b"{") and follows[:1] not in (b"", b"{", b"[")


class _Window:
    """Hold the part of an array that is being read."""

    def __init__(self, stream: io.BufferedReader, path: str, line: int, limits: Limits) -> None:
        self._stream, self._path, self._limits = stream, path, limits
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._is_whole = False
        self._json = StrictDecoder()
        self.text, self.at = "", 0
        self.line, self._column = line, 0  # of `at`; the column counts from 0

    def next_sign(self) -> str:
        """Pass over what is blank; return the character there, empty at the end."""
        while True:
            self._advance(_skip_blank(self.text, self.at))
            if self.at < len(self.text) or not self._more():
                return self.text[self.at : self.at + 1]

    def skip(self) -> None:
        """Pass over one character."""
        self._advance(self.at + 1)

    def value(self) -> tuple[Any, list[str]]:
        """Read the value that starts here, and what is wrong with it."""
        while True:
            try:
                value, end = self._json.decode(self.text, self.at)
            except json.JSONDecodeError as error:
                is_certain = not error.msg.startswith("Unterminated string")
                is_certain &= error.pos < len(self.text) - _LONGEST_LITERAL
                if is_certain or self._is_whole:
                    raise
            else:
                # A number at the window's edge may go on.
                if end < len(self.text) or self.text[end - 1] in '}]"' or self._is_whole:
                    self._advance(end)
                    return value, list(self._json.faults)
            self._more()

    def place(self, pos: int) -> tuple[int, int]:
        """Give the 1-based line and column of a place in the window."""
        newlines = self.text.count("\n", self.at, pos)
        if not newlines:
            return self.line, self._column + pos - self.at + 1
        return self.line + newlines, pos - self.text.rfind("\n", self.at, pos)

    def _advance(self, to: int) -> None:
        line, column = self.place(to)
        self.line, self._column, self.at = line, column - 1, to

    def _more(self) -> bool:
        """Take in as much again as is open, and let go of what was read; False at the end."""
        if self._is_whole:
            return False
        rest = self.text[self.at :]
        if len(rest) > self._limits.max_line_bytes:
            raise too_long(self._path, self.line, self._limits)
        chunk = self._stream.read(max(_CHUNK, len(rest)))
        try:
            self.text, self.at = rest + self._utf8.decode(chunk, final=not chunk), 0
        except UnicodeDecodeError as error:
            line = self.line + rest.count("\n") + error.object.count(b"\n", 0, error.start)
            raise DataError(not_utf8(error), path=self._path, line=line) from None
        self._is_whole = not chunk
        return not self._is_whole


def _iter_array(
    stream: io.BufferedReader, path: str, *, line: int, limits: Limits
) -> Iterator[tuple[int, Any] | Problem]:
    window = _Window(stream, path, line, limits)
    try:
        window.next_sign()
        window.skip()
        sign = "]" if window.next_sign() == "]" else ","
        while sign == ",":
            line = window.line
            value, faults = window.value()
            yield Problem("not-json", faults[0], path, line) if faults else (line, value)
            sign = window.next_sign()
            if sign not in ("]", ","):
                raise json.JSONDecodeError("Expecting ',' or ']'", window.text, window.at)
            if sign == ",":
                window.skip()
                window.next_sign()
        window.skip()
        if window.next_sign():
            raise json.JSONDecodeError("Extra data after ']'", window.text, window.at)
    except json.JSONDecodeError as error:
        found, column = window.place(error.pos)
        yield Problem("not-json", not_json(error.msg, column), path, found)
    except ValueError as error:
        yield Problem("not-json", _not_readable(error), path, window.line)
