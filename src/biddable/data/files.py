"""Read the rows of a file or a folder, one at a time, whatever their keys are.

A file is JSON lines, one JSON array, CSV (these also compressed: .gz, .zst) or Parquet; a folder
holds such files. Compressed files are opened under limits, so that a small one cannot fill the
machine. Rows come as they are read: memory holds one of them, or a batch of a Parquet file.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from biddable.data.json_rows import EMPTY, Limits, iter_json, refuse_other_unicode
from biddable.data.problems import Problem, kind_of
from biddable.data.tables import iter_csv, iter_parquet
from biddable.errors import DataError, how_to_install, nearest

Row = dict[str, Any]

COMPRESSED = (".gz", ".zst")
TABLES = (".csv", ".tsv")
ENDINGS = (".jsonl", ".json", ".ndjson", *TABLES, ".parquet")
_MAGIC = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst", b"PAR1": ".parquet"}
_NOTICED_BYTES = 256 * 2**20
_FED_BYTES = 2**11  # a zstandard block of few bytes may hold 128 KiB


@dataclass(frozen=True, slots=True)
class FileRow:
    """Hold one row and where it stands.

    Attributes:
        path: the file.
        line: 1-based line on which the row starts; in Parquet and on the hub the row's number.
        row: its keys and values.
    """

    path: str
    line: int
    row: Row


def data_files(path: Path) -> tuple[list[Path], list[str]]:
    """List the data files of a path.

    Args:
        path: a file, which is taken whatever its name is, or a folder.

    Returns:
        files: of a folder those with an ending of ours, sorted by path.
        passed_over: its other files, hidden ones apart.

    Raises:
        DataError: there is no such path, or the folder holds no data file.
    """
    if not path.is_dir():
        if not path.exists():
            beside = (entry.name for entry in path.parent.glob("*")) if path.parent.is_dir() else ()
            raise DataError(f"no such file.{nearest(path.name, beside)}", path=path)
        if not path.is_file():  # a pipe can be read once, and a run reads its data twice
            raise DataError("is no regular file; write its rows to one first.", path=path)
        return [path], []
    found = [
        Path(folder, name)
        for folder, _, names in os.walk(path)  # follows no links to folders, so it ends
        for name in names
        if not any(part.startswith(".") for part in Path(folder, name).relative_to(path).parts)
    ]
    files = sorted(file for file in found if ending_of(file)[0] in ENDINGS)
    if not files:
        raise DataError(
            f"the folder holds no data file; expected names ending in {', '.join(ENDINGS)}.",
            path=path,
        )
    return files, sorted(str(file) for file in found if file not in set(files))


def passed_over(path: str | Path) -> tuple[str, ...]:
    """Name the files of a folder that are not data; none of a file or of a name on the hub."""
    return tuple(data_files(Path(path))[1]) if Path(path).is_dir() else ()


def tell_passed_over(names: Sequence[str], *, limit: int = 20) -> str:
    """Say which files are not data.

    Example:
        >>> tell_passed_over(["a/README.md", "a/notes.txt"], limit=1)
        'not data, passed over: a/README.md and 1 more'
    """
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return f"not data, passed over: {', '.join(names[:limit])}{more}"


def ending_of(path: Path) -> tuple[str, str]:
    """Split a file's name into what it holds and how it is compressed.

    Example:
        >>> ending_of(Path("a.jsonl.GZ")), ending_of(Path("a.csv"))
        (('.jsonl', '.gz'), ('.csv', ''))
    """
    compression = path.suffix.lower() if path.suffix.lower() in COMPRESSED else ""
    inner = path.with_suffix("") if compression else path
    return inner.suffix.lower(), compression


def iter_file(path: Path, *, limits: Limits) -> Iterator[FileRow | Problem]:
    """Read the rows of one file.

    Args:
        path: the file; its name's ending says how it is read, else its first bytes.
        limits: what it may ask for.

    Yields:
        The rows in file order; in the place of one that cannot be read, what is wrong with it.

    Raises:
        DataError: the file cannot be opened, is empty, is damaged, or is over a limit.
    """
    name = str(path)
    is_empty = True
    for entry in _values(path, limits):
        is_empty = False
        if isinstance(entry, Problem):
            yield entry
        elif isinstance(entry[1], dict):
            yield FileRow(name, *entry)
        else:
            text = f"{kind_of(entry[1])} instead of a row; expected an object {{...}}."
            yield Problem("not-a-row", text, name, entry[0])
    if is_empty:
        raise DataError("has no rows; expected JSON lines or a JSON array of objects.", path=path)


def _values(path: Path, limits: Limits) -> Iterator[tuple[int, Any] | Problem]:
    ending, compression = ending_of(path)
    try:
        with path.open("rb") as file:
            head = file.read(4)
        if not head:
            raise DataError(EMPTY, path=path)
        if not compression and ending != ".parquet":
            found = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "")
            ending, compression = (found, "") if found == ".parquet" else (ending, found)
        if ending == ".parquet":
            if compression:
                raise DataError("Parquet is compressed by itself; unpack the file.", path=path)
            yield from iter_parquet(path, limits=limits)
            return
        with closing(_open(path, compression, limits)) as stream:
            refuse_other_unicode(stream.peek(4)[:4], str(path))
            if ending in TABLES:
                yield from iter_csv(stream, str(path), limits=limits)
            else:
                yield from iter_json(stream, str(path), limits=limits)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}.", path=path) from error


def _open(path: Path, compression: str, limits: Limits) -> io.BufferedReader:
    if compression == ".zst":
        require_zstandard(path)  # before anything is opened
    file = path.open("rb")
    if not compression:
        return file
    source: Any = gzip.GzipFile(fileobj=file) if compression == ".gz" else _Frames(file, path)
    return io.BufferedReader(_Metered(source, file, path, limits), buffer_size=2**17)


class _Metered(io.RawIOBase):
    """Unpack a file, and stop where it unpacks to more than is allowed."""

    def __init__(self, source: Any, file: BinaryIO, path: Path, limits: Limits) -> None:
        self._source, self._file, self._path, self._limits = source, file, path, limits
        self._num_packed = max(path.stat().st_size, 1)
        self._num_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._source.read(len(buffer))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise _damaged(self._path, str(error)) from error
        buffer[: len(data)] = data
        self._num_bytes += len(data)
        most, ratio = self._limits.max_file_bytes, self._limits.max_ratio
        if self._num_bytes > most:
            raise DataError(
                f"unpacks to more than {most:,} bytes; raise max_file_bytes if that is meant.",
                path=self._path,
            )
        if self._num_bytes > max(_NOTICED_BYTES, ratio * self._num_packed):
            raise DataError(
                f"unpacks to more than {ratio} times its size, as made-up files do; raise max_ratio"
                " if that is meant.",
                path=self._path,
            )
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def require_zstandard(path: Path) -> Any:
    """Load the optional library, or say how to get it."""
    try:
        import zstandard
    except ImportError:
        raise DataError(
            f".zst needs the package zstandard: {how_to_install('zstd')}.", path=path
        ) from None
    return zstandard


class _Frames:
    """Unpack zstandard frames; unlike the library's own stream, a frame cut short is an error."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self._library = require_zstandard(path)
        self._frame: Any = None
        self._open_bytes, self._packed = b"", b""

    def read(self, num_bytes: int) -> bytes:
        """Unpack up to so many bytes; none at the end."""
        while not self._open_bytes:
            chunk = self._packed or self._file.read(_FED_BYTES)
            self._packed = b""
            if not chunk:
                if self._frame is not None:
                    raise _damaged(self._path, "it ends in the middle of a frame")
                return b""
            self._feed(chunk)
        data, self._open_bytes = self._open_bytes[:num_bytes], self._open_bytes[num_bytes:]
        return data

    def _feed(self, chunk: bytes) -> None:
        if self._frame is None:
            self._frame = self._library.ZstdDecompressor().decompressobj()
        try:
            self._open_bytes = self._frame.decompress(chunk)
        except self._library.ZstdError as error:
            raise _damaged(self._path, str(error)) from error
        if self._frame.eof:
            self._packed, self._frame = self._frame.unused_data, None


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(
        f"is no whole compressed file ({reason}); copy or download it again.", path=path
    )
