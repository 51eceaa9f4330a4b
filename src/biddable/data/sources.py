"""Read the sources that a config names, and draw from each as its weight says.

A weight is how often each row is learned in an epoch: 2 repeats every row, 0.5 chooses half of them
by seed, once for the whole run. Rows are drawn after the held-out ones are cut off, so that no copy
of a row that is learned is held out.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from biddable.config_data import DataConfig, SourceConfig
from biddable.data.builtin import builtin_names, builtin_path
from biddable.data.conversation import Conversation
from biddable.data.files import passed_over
from biddable.data.formats import Recognised
from biddable.data.json_rows import Limits
from biddable.data.problems import Problem, raise_all
from biddable.data.readers import Reading, ReadOptions, examine, iter_conversations
from biddable.errors import ConfigError
from biddable.manifest import hash_file

T = TypeVar("T")

_LARGE = 64 * 2**20  # bytes


@dataclass(frozen=True, slots=True)
class Source:
    """Hold the rows of one source.

    Attributes:
        name: as the config has it.
        weight: how often each row is learned in an epoch.
        reading: its conversations, and what they were taken for.
    """

    name: str
    weight: float
    reading: Reading

    def describe(self) -> list[dict[str, Any]]:
        """Say for each file what it is, for the manifest; a hub's data set has no hash."""
        return [
            {
                "file": file.path,
                "sha256": hash_file(file.path) if Path(file.path).is_file() else None,
                "num_rows": file.num_rows,
                "format": file.format,
                "weight": self.weight,
            }
            for file in self.reading.files
        ]


def read_sources(data: DataConfig) -> list[Source]:
    """Read all that is to be learned.

    Raises:
        DataError: a source cannot be read, or rows have problems; those of all sources are named.
    """
    return _all_whole([_read(source, data, split="train") for source in data.train])


def read_held_out(name: str, data: DataConfig) -> Source:
    """Read the rows whose loss is measured, as the sources are read.

    Raises:
        DataError: as for ``read_sources``.
    """
    (source,) = _all_whole([_read(SourceConfig(path=name), data, split="held_out")])
    return source


def hash_sources(data: DataConfig, *, seed: int, held_out: str | None) -> list[str] | None:
    """Tell, without reading rows, what they come from.

    Args:
        data: names the sources.
        seed: of ``draw``.
        held_out: what ``read_held_out`` is given.

    Returns:
        Lines that differ if the files do; None if a source is not on this machine.
    """
    hashes = [f"seed {seed}"] if any(source.weight % 1 for source in data.train) else []
    named = [(source.path, "train") for source in data.train]
    for name, split in [*named, *([(held_out, "held_out")] if held_out is not None else [])]:
        files = _local_files(name, split)
        if not files:
            return None
        hashes += [f"{split} {file} {hash_file(file)}" for file in files]
    return hashes


def is_large(data: DataConfig) -> bool:
    """Tell whether what is to be learned, once each, is better not held in memory as a whole."""
    if any(source.weight != 1 for source in data.train):
        return False
    files = [file for source in data.train for file in _local_files(source.path, "train")]
    return sum(file.stat().st_size for file in files) > _LARGE


def stream_sources(data: DataConfig, *, tell: Callable[[Source], None]) -> Iterator[Conversation]:
    """Read all that is to be learned, one row at a time.

    Args:
        data: names the sources; each has a weight of 1.
        tell: called after each source with what it was taken for, without its rows.

    Raises:
        DataError: a source cannot be read, or a row has a problem; it is named with those among
            the rows that follow it.
    """
    for source in data.train:
        files: list[Recognised] = []
        path, options = _place(source, data, split="train")
        yield from iter_conversations(path, options=options, tell=files.append)
        reading = Reading([], [], tuple(files), passed_over(path))
        tell(Source(source.path, source.weight, reading))


def draw(
    rows: Sequence[tuple[int, T]], weights: Sequence[float], *, seed: int
) -> tuple[list[T], list[int]]:
    """Repeat and choose rows by the weight of their source.

    Args:
        rows: pairs of (number of the source, row).
        weights: of each source, how often a row of it is to stand in the result.
        seed: chooses the rows of a weight's fraction.

    Returns:
        drawn: the rows in their order, copies side by side.
        counts: how many of them are of each source.

    Raises:
        ConfigError: a source has rows, and its weight leaves none.

    Example:
        >>> draw([(0, "a"), (1, "b"), (1, "c")], [2, 0.5], seed=0)
        (['a', 'a', 'b'], [2, 1])
    """
    chosen: set[int] = set()
    for number, weight in enumerate(weights):
        places = [place for place, (source, _) in enumerate(rows) if source == number]
        # Each source has its own chance, so that one more source changes no other's rows.
        draws = random.Random(f"{seed} {number}")
        chosen.update(draws.sample(places, round(weight % 1 * len(places))))
    drawn: list[T] = []
    counts = [0] * len(weights)
    for place, (source, row) in enumerate(rows):
        copies = int(weights[source]) + (place in chosen)
        drawn += [row] * copies
        counts[source] += copies
    present = {source for source, _ in rows}
    for number in sorted(present):
        if not counts[number]:
            num_rows = sum(source == number for source, _ in rows)
            raise ConfigError(
                f"data.train[{number}].weight: {weights[number]:g} of {num_rows} rows leaves none;"
                " raise it, or remove the source."
            )
    return drawn, counts


def _read(source: SourceConfig, data: DataConfig, *, split: str) -> Source:
    path, options = _place(source, data, split=split)
    return Source(source.path, source.weight, examine(path, options=options))


def _place(source: SourceConfig, data: DataConfig, *, split: str) -> tuple[str | Path, ReadOptions]:
    options = ReadOptions(
        source.format or data.format,
        data.role_map if source.role_map is None else source.role_map,
        Limits(data.max_file_bytes, data.max_line_bytes, data.max_ratio),
        data.streaming,
    )
    is_builtin = source.path in builtin_names()
    return builtin_path(source.path, split) if is_builtin else source.path, options


def _local_files(name: str, split: str) -> list[Path]:
    """List the files of a source, as far as it is on this machine."""
    path = Path(builtin_path(name, split) if name in builtin_names() else name)
    return [path] if path.is_file() else [p for p in sorted(path.rglob("*")) if p.is_file()]


def _all_whole(sources: list[Source]) -> list[Source]:
    problems: list[Problem] = [p for source in sources for p in source.reading.problems]
    if problems:
        raise_all(problems)
    return sources
