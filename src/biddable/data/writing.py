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

    A text that UTF-8 cannot hold, as half of a surrogate pair, is written as an escape.

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
    there = [path for path in texts if path.exists()]
    if there and not replace:
        raise DataError("is there already; choose another name, or delete it.", path=there[0])
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


def _line(row: Mapping[str, Any]) -> str:
    text = json.dumps(row, ensure_ascii=False)
    with suppress(UnicodeEncodeError):
        text.encode("utf-8")
        return text
    return json.dumps(row)


def _remove(name: str) -> None:
    with suppress(OSError):
        os.unlink(name)


def _refused(path: Path, error: OSError) -> DataError:
    return DataError(f"cannot be written: {error.strerror or error}.", path=path)
