"""Write a file of rows as two: one to learn, one to ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from biddable.data.files import Row
from biddable.data.formats import require_format
from biddable.data.problems import raise_all
from biddable.data.readers import ReadOptions, examine_rows, read_rows
from biddable.data.splits import content_key, group_key, split_by_hash
from biddable.data.writing import rows_as_text, write_files
from biddable.errors import DataError, join_problems, nearest

BY_CONTENT = "content"


def split_file(
    path: str | Path,
    out: str | Path,
    *,
    held_out: float,
    by: str = BY_CONTENT,
    options: ReadOptions = ReadOptions(),
) -> dict[str, Any]:
    """Split a file by a hash of each row's question, or of the value of a key.

    Args:
        path: the file, of any known format.
        out: a folder for train.jsonl and held_out.jsonl, made if it is not there.
        held_out: the share to hold out, between 0 and 1.
        by: ``content``, or a key that all rows have.
        options: how the rows are read.

    Returns:
        Rows on each side, and the files.

    Raises:
        DataError: a row cannot be read or lacks the key, a side would be empty, or one of the files
            is there already.
    """
    require_format(options.format)
    rows = read_rows(path, limits=options.limits)
    if by == BY_CONTENT:
        conversations, problems = examine_rows(rows, path=str(path), options=options)
        if problems:
            raise_all(problems)
        keys = [content_key(row) for row in conversations]
    else:
        keys = _group_keys(rows, by, path=path)
    sides = split_by_hash(keys, held_out=held_out)
    parts = {
        name: [row for (_, row), is_held in zip(rows, sides, strict=True) if is_held == wanted]
        for name, wanted in (("train", False), ("held_out", True))
    }
    for name, part in parts.items():
        if not part:
            groups = f"{len(set(keys)):,} {'questions' if by == BY_CONTENT else 'values'}"
            raise DataError(
                f"no row falls to {name} with a held-out share of {held_out:g} over {groups};"
                " choose another --held-out, or a key with more values.",
                path=path,
            )
    files = {name: Path(out) / f"{name}.jsonl" for name in parts}
    write_files({files[name]: rows_as_text(part) for name, part in parts.items()})
    return {
        "by": by,
        **{name: len(part) for name, part in parts.items()},
        "groups": len(set(keys)),
        "files": {name: str(file) for name, file in files.items()},
    }


def _group_keys(rows: list[tuple[int, Row]], by: str, *, path: str | Path) -> list[str]:
    values = [group_key(row, by) for _, row in rows]
    lacking = [
        str(
            DataError(f'has no "{by}"; give it one, or split by another key.', path=path, line=line)
        )
        for (line, row), value in zip(rows, values, strict=True)
        if value is None
    ]
    if len(lacking) == len(rows):
        known = sorted({key for _, row in rows for key in row})
        hint = nearest(by, known) or f" Its keys are {', '.join(known)}."
        raise DataError(f'no row has the key "{by}".{hint}', path=path)
    if lacking:
        raise DataError(join_problems(lacking))
    return [value for value in values if value is not None]
