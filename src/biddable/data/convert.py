"""Rewrite a source of rows in another format and another kind of file."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from biddable.data.files import (
    COMPRESSED,
    ENDINGS,
    data_files,
    ending_of,
    passed_over,
    require_zstandard,
)
from biddable.data.formats import FORMATS, Recognised
from biddable.data.problems import Problem, raise_all
from biddable.data.readers import ReadOptions, iter_conversations
from biddable.data.row_writing import write_row
from biddable.data.tables import plan_columns, write_csv, write_parquet
from biddable.errors import ConfigError, DataError, nearest

Rows = Callable[[], Iterator[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Converted:
    """Say what was written.

    Attributes:
        target: the file.
        format: of its rows.
        num_rows: how many.
        files: what the rows of each file read were taken for.
        passed_over: files of a folder that are not data.
    """

    target: str
    format: str
    num_rows: int
    files: tuple[Recognised, ...]
    passed_over: tuple[str, ...] = ()


def convert(
    source: str | Path, target: str | Path, *, to: str, options: ReadOptions = ReadOptions()
) -> Converted:
    """Write the rows of a source in another format.

    The source is read twice, so that memory stays flat and nothing is written before all rows are
    known to fit.

    Args:
        source: as for ``read_conversations``.
        target: the file; its ending says the kind: .jsonl, .json, .csv, .parquet, the first
            three also with .gz or .zst.
        to: the name of a format.
        options: how the source is read.

    Raises:
        ConfigError: there is no such format, or no such kind of file, or the target is a file that
            is read.
        DataError: the source has problems, or rows that the format cannot carry; all are named.
    """
    path = Path(target)
    _require_target(path, to)
    _require_apart(source, path)
    files: list[Recognised] = []
    problems: list[Problem] = []

    def rows(tell: Callable[[Recognised], None] | None = None) -> Iterator[dict[str, Any]]:
        for conversation in iter_conversations(source, options=options, tell=tell):
            row = write_row(conversation, to)
            if isinstance(row, Problem):
                problems.append(row)
            else:
                yield row

    plan = plan_columns(rows(files.append), is_text=ending_of(path)[0] in (".csv", ".tsv"))
    if problems:
        raise_all(problems)
    write_rows(path, rows(), plan=plan)
    return Converted(
        str(path), to, sum(f.num_rows for f in files), tuple(files), passed_over(source)
    )


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], *, plan: dict[str, str]) -> None:
    """Write rows to a file of the kind that its ending says; whole, or not at all.

    Args:
        path: the file.
        rows: JSON values only.
        plan: the columns of a table, by ``plan_columns``.

    Raises:
        DataError: the file cannot be written.
    """
    ending, compression = ending_of(path)
    partial: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
        os.close(handle)
        partial = Path(name)
        if ending == ".parquet":
            write_parquet(partial, rows, plan)
        else:
            with partial.open("wb") as file, _packed(file, path, compression) as packed:
                text = io.TextIOWrapper(packed, encoding="utf-8", newline="", write_through=False)
                _write_text(text, ending, rows, plan)
                text.flush()
                text.detach()
        partial.chmod(0o644)  # the temporary file's own mode hides it from everybody else
        partial.replace(path)
        partial = None
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror or error}.", path=path) from error
    finally:
        if partial is not None:
            with contextlib.suppress(OSError):
                partial.unlink()


def _write_text(
    file: io.TextIOWrapper, ending: str, rows: Iterable[Mapping[str, Any]], plan: dict[str, str]
) -> None:
    if ending in (".csv", ".tsv"):
        write_csv(file, rows, plan, delimiter="\t" if ending == ".tsv" else ",")
        return
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    if ending == ".json":
        first = next(lines, None)
        file.write("[\n" + (first or ""))
        file.writelines(f",\n{line}" for line in lines)
        file.write("\n]\n")
    else:
        file.writelines(line + "\n" for line in lines)


def _packed(file: BinaryIO, path: Path, compression: str) -> contextlib.AbstractContextManager[Any]:
    if compression == ".gz":
        return gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0)  # the same bytes always
    if compression == ".zst":
        return require_zstandard(path).ZstdCompressor().stream_writer(file, closefd=False)  # type: ignore[no-any-return]
    return contextlib.nullcontext(file)


def _require_apart(source: str | Path, target: Path) -> None:
    """Refuse to write over what is read, which a fault half-way would leave nobody."""
    place = Path(source)
    read = data_files(place)[0] if place.exists() else []
    if target.exists() and any(file.samefile(target) for file in read):
        raise ConfigError(f"{target}: is what is read; choose another name for what is written.")


def _require_target(path: Path, to: str) -> None:
    if to not in FORMATS:
        raise ConfigError(f'no format "{to}"; known: {", ".join(FORMATS)}.{nearest(to, FORMATS)}')
    ending, compression = ending_of(path)
    if ending not in ENDINGS or (ending == ".parquet" and compression):
        raise ConfigError(
            f"{path}: no kind of file to write; its name should end in {', '.join(ENDINGS)},"
            f" all but the last also with {' or '.join(COMPRESSED)}."
        )
    if compression == ".zst":
        require_zstandard(path)  # before an hour of reading
    if not path.parent.is_dir():
        raise DataError("cannot be written: no such folder.", path=path)
