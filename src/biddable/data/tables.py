"""Read and write rows as tables: CSV, which holds text only, and Parquet.

A table cannot hold every row as it is: a cell of text tells no number from its digits, and a
missing key from an empty one. A column whose name ends in ``:json`` therefore holds JSON, empty
where the key is missing; ``plan_columns`` chooses it where nothing plainer holds the rows exactly.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from biddable.data.json_rows import (
    UTF8_MARK,
    Limits,
    StrictDecoder,
    iter_lines,
    not_utf8,
    parse_value,
)
from biddable.data.problems import Problem
from biddable.errors import DataError

JSON_COLUMN = ":json"
# Columns that hold lists; a table of another program's making writes them as JSON text.
_LISTS = ("messages", "conversations", "tools")
# Keys whose empty text says the same as none.
_OPTIONAL_TEXTS = {"input", "context", "system", "category"}
_KNOWN = {
    *("instruction", "input", "context", "output", "response", "prompt", "completion"),
    *("messages", "conversations", "text"),
}
_DELIMITERS = ",;\t"
_BATCH_ROWS = 256


def iter_csv(
    stream: io.BufferedReader, path: str, *, limits: Limits
) -> Iterator[tuple[int, Any] | Problem]:
    """Read the rows of a CSV file with a header; commas, semicolons or tabs part its cells.

    Yields:
        Pairs of (1-based line on which the row starts, row), or what is wrong with it.

    Raises:
        DataError: the header or the quoting is wrong, bytes are not UTF-8, or a row is too long.
    """
    csv.field_size_limit(max(csv.field_size_limit(), min(limits.max_line_bytes, sys.maxsize)))
    lines = _text_lines(stream, path, limits)
    first = next(lines, "")
    reader = csv.reader(
        itertools.chain([first], lines), delimiter=_delimiter(first, path), strict=True
    )
    header: list[str] | None = None
    decoder = StrictDecoder()
    start = 1
    try:
        for cells in reader:
            line, start = start, reader.line_num + 1
            if not cells:
                continue
            if header is None:
                header = _checked_header(cells, path, line)
            elif len(cells) != len(header):
                text = (
                    f"has {len(cells)} cells; the header has {len(header)}. Quote a cell that holds"
                    " a delimiter."
                )
                yield Problem("wrong-cells", text, path, line)
            else:
                yield _row_of_cells(zip(header, cells, strict=True), decoder, path, line=line)
    except csv.Error as error:
        raise DataError(f"no CSV that can be read ({error}).", path=path, line=start) from error


def iter_parquet(path: Path, *, limits: Limits) -> Iterator[tuple[int, Any] | Problem]:
    """Read the rows of a Parquet file; a null there is a missing key.

    Yields:
        Pairs of (1-based number of the row, row), or what is wrong with it.

    Raises:
        DataError: the file is damaged, or unpacks to more than the limit.
    """
    import pyarrow
    import pyarrow.parquet

    decoder = StrictDecoder()
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            groups = range(file.metadata.num_row_groups)
            num_bytes = sum(file.metadata.row_group(n).total_byte_size for n in groups)
            if num_bytes > limits.max_file_bytes:
                raise DataError(
                    f"unpacks to {num_bytes:,} bytes, more than {limits.max_file_bytes:,}; raise"
                    " max_file_bytes if that is meant.",
                    path=path,
                )
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    cells = [(key, value) for key, value in row.items() if value is not None]
                    yield _row_of_cells(cells, decoder, str(path), line=number)
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"no Parquet file that can be read ({reason}).", path=path) from error


def plan_columns(rows: Iterable[Mapping[str, Any]], *, is_text: bool) -> dict[str, str]:
    """Find the columns that hold rows exactly.

    Args:
        rows: all that are to be written.
        is_text: whether cells hold text only, as in CSV, where none is missing.

    Returns:
        By key, in the order met, what its column holds: ``text``, ``json``, and in Parquet also
        ``truth``, ``whole``, ``number`` and ``turns`` (messages of two texts each).

    Example:
        >>> plan_columns([{"prompt": "a", "n": 1}, {"prompt": "b"}], is_text=True)
        {'prompt': 'text', 'n': 'json'}
    """
    kinds: dict[str, set[str]] = {}
    counts: dict[str, int] = {}
    num_rows = 0
    for row in rows:
        num_rows += 1
        for key, value in row.items():
            kinds.setdefault(key, set()).add(_plain_kind(value))
            counts[key] = counts.get(key, 0) + 1
    plan = {}
    for key, found in kinds.items():
        is_plain = len(found) == 1 and not (is_text and found != {"text"})
        if is_text and counts[key] < num_rows and key not in _OPTIONAL_TEXTS:
            is_plain = False
        is_plain &= not key.endswith(JSON_COLUMN) and not (key in _LISTS and found == {"text"})
        plan[key] = found.pop() if is_plain else "json"
    return plan


def write_csv(
    file: io.TextIOBase,
    rows: Iterable[Mapping[str, Any]],
    plan: dict[str, str],
    *,
    delimiter: str = ",",
) -> None:
    """Write rows as CSV in the columns planned."""
    writer = csv.writer(
        file, delimiter=delimiter
    )  # its own line ends make it quote both of the signs in them
    writer.writerow(_column_names(plan))
    writer.writerows(
        ["" if key not in row else _cell(row[key], kind) for key, kind in plan.items()]
        for row in rows
    )


def write_parquet(path: Path, rows: Iterable[Mapping[str, Any]], plan: dict[str, str]) -> None:
    """Write rows as Parquet in the columns planned."""
    import pyarrow
    import pyarrow.parquet

    roles = {"role": pyarrow.string(), "content": pyarrow.string()}
    sides = {"from": pyarrow.string(), "value": pyarrow.string()}
    types = {
        "text": pyarrow.string(),
        "json": pyarrow.string(),
        "truth": pyarrow.bool_(),
        "whole": pyarrow.int64(),
        "number": pyarrow.float64(),
        "turns": pyarrow.list_(pyarrow.struct(roles)),
        "sides": pyarrow.list_(pyarrow.struct(sides)),
    }
    schema = pyarrow.schema(
        [(name, types[kind]) for name, kind in zip(_column_names(plan), plan.values(), strict=True)]
    )
    cells = (
        {
            name: _cell(row[key], kind)
            for name, (key, kind) in zip(_column_names(plan), plan.items(), strict=True)
            if key in row
        }
        for row in rows
    )
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        while batch := list(itertools.islice(cells, _BATCH_ROWS)):
            writer.write_table(pyarrow.Table.from_pylist(batch, schema=schema))


def _column_names(plan: Mapping[str, str]) -> list[str]:
    return [key + JSON_COLUMN if kind == "json" else key for key, kind in plan.items()]


def _cell(value: Any, kind: str) -> Any:
    return json.dumps(value, ensure_ascii=False) if kind == "json" else value


def _plain_kind(value: Any) -> str:
    """Name the column that holds a value as it is; ``json`` if there is none."""
    if isinstance(value, list):
        return _kind_of_turns(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return "whole" if -(2**63) <= value < 2**63 else "json"
    if isinstance(value, float):
        return "number" if math.isfinite(value) else "json"
    return {str: "text", bool: "truth"}.get(type(value), "json")


def _kind_of_turns(turns: list[Any]) -> str:
    for kind, keys in (("turns", ("role", "content")), ("sides", ("from", "value"))):
        if turns and all(
            isinstance(turn, dict)
            and turn.keys() == set(keys)
            and all(isinstance(text, str) for text in turn.values())
            for turn in turns
        ):
            return kind
    return "json"


def _text_lines(stream: io.BufferedReader, path: str, limits: Limits) -> Iterator[str]:
    for number, line in iter_lines(stream, path, limits=limits):
        data = line.removeprefix(UTF8_MARK) if number == 1 else line
        try:
            yield data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(not_utf8(error), path=path, line=number) from None


def _delimiter(line: str, path: str) -> str:
    """Choose the sign that parts a header into the most columns that are known, then the most.

    Of equals, as in a header of one column, it is the one that the file's name promises.
    """
    is_tabbed = ".tsv" in PurePath(path).suffixes

    def parted(delimiter: str) -> tuple[int, int]:
        try:
            names = next(csv.reader([line], delimiter=delimiter), [])
        except csv.Error:
            return -1, 0
        return sum(name.removesuffix(JSON_COLUMN) in _KNOWN for name in names), len(names)

    return max(_DELIMITERS[::-1] if is_tabbed else _DELIMITERS, key=parted)


def _checked_header(names: list[str], path: str, line: int) -> list[str]:
    for name in names:
        if names.count(name) > 1:
            text = f'the header has the column "{name}" twice; rename one of them.'
            raise DataError(text, path=path, line=line)
    return names


def _row_of_cells(
    cells: Iterable[tuple[str, Any]], decoder: StrictDecoder, path: str, *, line: int
) -> tuple[int, Any] | Problem:
    row = {}
    for name, cell in cells:
        key = name.removesuffix(JSON_COLUMN)
        is_json = key != name and isinstance(cell, str)
        is_json |= name in _LISTS and isinstance(cell, str) and cell.lstrip().startswith("[")
        if not is_json:
            row[name] = without_nulls(cell)
        elif cell:
            row[key], problem = parse_value(cell, decoder)
            if problem:
                text = f'the column "{name}" holds text that is {problem}'
                return Problem("not-json", text, path, line)
    return line, row


def without_nulls(value: Any) -> Any:
    """Leave out the keys of structs that hold null, which is how Parquet writes a missing key."""
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return value
