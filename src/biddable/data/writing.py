"""Write files of rows and pages whole, or leave what was there."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from biddable.errors import DataError


def rows_as_text(rows: Iterable[Mapping[str, Any]]) -> str:
    r"""Write rows as JSON lines.

    What UTF-8 cannot hold, as half of a surrogate pair, and what some tools take for the end of a
    line, as U+2028, is written as an escape.

    Example:
        >>> rows_as_text([{"text": "é"}])
        '{"text": "é"}\n'
    """
    return "".join(_line(row) + "\n" for row in rows)


def write_files(texts: Mapping[Path, str], *, replace: bool = False) -> None:
    """Write several files, all of them or none.

    Args:
        texts: by file; folders are made.
        replace: whether to write over files that are there.

    Raises:
        DataError: a file is there already, or the disk refuses.
    """
    if not replace:
        refuse_existing(texts)
    with ExitStack() as undo:
        partial = {}
        for path, text in texts.items():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                handle, name = tempfile.mkstemp(dir=path.parent, suffix=".partial")
                undo.callback(_remove, name)
                with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                Path(name).chmod(0o644)  # mkstemp's own mode hides the file from everybody else
            except OSError as error:
                raise _refused(path, error) from error
            partial[path] = name
        for path, name in partial.items():
            try:
                os.replace(name, path)
            except OSError as error:
                raise _refused(path, error) from error


def refuse_existing(paths: Iterable[Path]) -> None:
    """Refuse to write over files.

    Raises:
        DataError: one of them is there.
    """
    for path in paths:
        if path.exists():
            raise DataError("is there already; choose another name, or delete it.", path=path)


def _line(row: Mapping[str, Any]) -> str:
    text = json.dumps(row, ensure_ascii=False)
    with suppress(UnicodeEncodeError):
        text.encode("utf-8")
        for sign in "\x85\u2028\u2029":
            text = text.replace(sign, f"\\u{ord(sign):04x}")
        return text
    return json.dumps(row)


def _remove(name: str) -> None:
    with suppress(OSError):
        os.unlink(name)


def _refused(path: Path, error: OSError) -> DataError:
    return DataError(f"cannot be written: {error.strerror or error}.", path=path)
