"""Read files of rows into conversations, and say with file and line what is wrong with them.

What a source is: a file or a folder (``files``), or a data set on the hub (``hub``). Its format is
the one that most of its rows fit (``formats``); a folder's files are recognised each by itself.
Problems are gathered and raised once; no row is skipped in silence.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from biddable.data.conversation import Conversation
from biddable.data.files import FileRow, Row, data_files, iter_file, tell_passed_over
from biddable.data.formats import (
    MIXED,
    RECOGNISED_ROWS,
    Recognised,
    fits,
    misfit,
    recognise,
    require_format,
)
from biddable.data.hub import is_hub_name, iter_hub
from biddable.data.json_rows import Limits
from biddable.data.problems import Problem, raise_all
from biddable.data.row_reading import read_row
from biddable.errors import DataError

_GATHERED_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """Say how a source is read.

    Attributes:
        format: the format of its rows, or ``mixed`` (each row by itself); None recognises it.
        role_map: what else the sides are called, and which role each is.
        limits: what a file may ask for.
        streaming: read a data set of the hub while downloading it.
    """

    format: str | None = None
    role_map: Mapping[str, str] | None = None
    limits: Limits = Limits()
    streaming: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """Hold what was read, and what could not be.

    Attributes:
        conversations: of the rows without a problem, in order.
        problems: of the others, in order.
        files: what each file's rows were taken for.
        passed_over: files of the folder that are not data.
    """

    conversations: list[Conversation]
    problems: list[Problem]
    files: tuple[Recognised, ...] = ()
    passed_over: tuple[str, ...] = ()

    @property
    def num_rows(self) -> int:
        """Count the rows, those with problems included."""
        return sum(file.num_rows for file in self.files)

    @property
    def format(self) -> str | None:
        """Name the format of all files; ``mixed`` if they differ, None if it is not known."""
        names = {file.format for file in self.files}
        return names.pop() if len(names) == 1 else MIXED

    def summary(self) -> str:
        """Say file by file, a line each, what was recognised, and name what was passed over."""
        lines = [file.summary() for file in self.files]
        if self.passed_over:
            lines.append(tell_passed_over(self.passed_over))
        return "\n".join(lines)


def read_conversations(
    path: str | Path, *, options: ReadOptions = ReadOptions()
) -> list[Conversation]:
    """Read instructions of any known format.

    Args:
        path: a file (JSON lines, a JSON array, CSV, Parquet; the first three also as .gz or .zst),
            a folder of them, or the name of a data set on the hub (``org/name:split``). Rows of
            any format in docs/data-formats.md.
        options: the format, if it is not to be recognised, and the rest.

    Returns:
        One conversation a row, in file order; each ends with an answer, or is plain text.

    Raises:
        DataError: a file cannot be read, is empty, or has rows of no known format; all rows with a
            problem are named.
    """
    reading = examine(path, options=options)
    if reading.problems:
        raise_all(reading.problems)
    return reading.conversations


def examine(path: str | Path, *, options: ReadOptions = ReadOptions()) -> Reading:
    """Read the rows that can be read, and say what is wrong with the others.

    Args:
        path: as for ``read_conversations``.
        options: likewise.

    Raises:
        DataError: a file cannot be opened, is empty, is damaged, or is over a limit.
    """
    conversations: list[Conversation] = []
    problems: list[Problem] = []
    files: list[Recognised] = []
    sources, passed_over = _sources(path, options)
    for name, entries in sources:
        for found in _conversations(entries, name, options=options, tell=files.append):
            if isinstance(found, Problem):
                problems.append(found)
            else:
                conversations.append(found)
    return Reading(conversations, problems, tuple(files), tuple(passed_over))


def iter_conversations(
    path: str | Path,
    *,
    options: ReadOptions = ReadOptions(),
    tell: Callable[[Recognised], None] | None = None,
) -> Iterator[Conversation]:
    """Read conversations one at a time, in memory that does not grow with the rows.

    Args:
        path: as for ``read_conversations``.
        options: likewise.
        tell: called after each file with what its rows were taken for.

    Yields:
        One conversation a row, in file order.

    Raises:
        DataError: as ``read_conversations``, but at the first bad row, which is named with those
            among the next rows that are bad too.
    """
    sources, _ = _sources(path, options)
    for name, entries in sources:
        found = _conversations(entries, name, options=options, tell=tell or (lambda file: None))
        for conversation in found:
            if isinstance(conversation, Problem):
                more = [
                    p for p in itertools.islice(found, _GATHERED_ROWS) if isinstance(p, Problem)
                ]
                raise_all([conversation, *more])
            yield conversation


def read_rows(path: str | Path, *, limits: Limits = Limits()) -> list[tuple[int, Row]]:
    """Read the objects of one file, whatever their keys are.

    Args:
        path: the file, of any kind that ``read_conversations`` takes.
        limits: what it may ask for.

    Returns:
        Pairs of (1-based line on which the row starts, row).

    Raises:
        DataError: the file is missing, empty, not UTF-8 or not JSON, or has rows that are not
            objects.
    """
    if Path(path).is_dir():
        raise DataError("is a folder; expected a file.", path=path)
    data_files(Path(path))  # says so if there is none
    rows: list[tuple[int, Row]] = []
    problems: list[Problem] = []
    for entry in iter_file(Path(path), limits=limits):
        if isinstance(entry, Problem):
            problems.append(entry)
        else:
            rows.append((entry.line, entry.row))
    if problems:
        raise_all(problems, path=path)
    return rows


def conversations_from_rows(
    rows: Sequence[tuple[int, Row]], *, path: str | None = None
) -> list[Conversation]:
    """Turn rows that are already in memory into conversations.

    Args:
        rows: pairs of (1-based line, row), all of one format.
        path: what the rows are called in messages; a file name as a rule.

    Returns:
        One conversation a row, in order; each ends with an answer, or is plain text.

    Raises:
        DataError: a row lacks keys, has an empty text, or is not a conversation that ends with an
            answer.
    """
    conversations, problems = examine_rows(rows, path=path)
    if problems:
        raise_all(problems, path=path)
    return conversations


def examine_rows(
    rows: Sequence[tuple[int, Row]],
    *,
    path: str | None = None,
    options: ReadOptions = ReadOptions(),
) -> tuple[list[Conversation], list[Problem]]:
    """Turn the rows that can be into conversations, and say what is wrong with the others.

    Args:
        rows: pairs of (1-based line, row), all of one format.
        path: what the rows are called in messages; a file name as a rule.
        options: the format, if it is not to be recognised, and the roles.

    Returns:
        conversations: of the rows without a problem, in order.
        problems: of the others, in order.
    """
    form = options.format or recognise(row for _, row in rows)
    found = [
        _conversation(row, form, path=path, line=line, role_map=options.role_map)
        for line, row in rows
    ]
    conversations = [one for one in found if isinstance(one, Conversation)]
    problems = [problem for one in found if isinstance(one, list) for problem in one]
    return conversations, problems


def _sources(
    path: str | Path, options: ReadOptions
) -> tuple[Iterable[tuple[str, Iterator[FileRow | Problem]]], list[str]]:
    """List the files of a source, each with its rows still to be read."""
    require_format(options.format)
    source = str(path)
    if not Path(path).exists() and isinstance(path, str) and is_hub_name(source):
        return [(source, iter_hub(source, streaming=options.streaming))], []
    files, passed_over = data_files(Path(path))
    return ((str(file), iter_file(file, limits=options.limits)) for file in files), passed_over


def _conversations(
    entries: Iterator[FileRow | Problem],
    name: str,
    *,
    options: ReadOptions,
    tell: Callable[[Recognised], None],
) -> Iterator[Conversation | Problem]:
    """Recognise the format of a file by its first rows, and read on through it."""
    head = list(itertools.islice(entries, RECOGNISED_ROWS))
    form = options.format or recognise(entry.row for entry in head if isinstance(entry, FileRow))
    num_rows = num_fitting = 0
    while head:
        for entry in head:
            num_rows += 1
            if isinstance(entry, Problem):
                yield entry
                continue
            num_fitting += form is not None and fits(entry.row, form)
            found = _conversation(
                entry.row, form, path=entry.path, line=entry.line, role_map=options.role_map
            )
            if isinstance(found, Conversation):
                yield found
            else:
                yield from found
        head = list(itertools.islice(entries, _GATHERED_ROWS))
    tell(Recognised(name, form, num_rows, num_fitting, is_given=options.format is not None))


def _conversation(
    row: Row,
    form: str | None,
    *,
    path: str | None,
    line: int,
    role_map: Mapping[str, str] | None,
) -> Conversation | list[Problem]:
    of_row = recognise([row]) if form == MIXED else form
    if of_row is None or not fits(row, of_row):
        return [misfit(row, form, path, line)]
    return read_row(row, of_row, path=path, line=line, role_map=role_map)
