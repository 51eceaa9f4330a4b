"""Read the sources that a config names, and draw from each as its weight says.

A weight is how often each row is learned in an epoch: 2 repeats every row, 0.5 chooses half of them
by seed, once for the whole run. Rows are drawn after the held-out ones are cut off, so that no copy
of a row that is learned is held out.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from biddable.config import DataConfig, SourceConfig
from biddable.data.builtin import builtin_names, builtin_path
from biddable.data.json_rows import Limits
from biddable.data.problems import Problem, raise_all
from biddable.data.readers import Reading, ReadOptions, examine
from biddable.errors import ConfigError
from biddable.manifest import hash_file

T = TypeVar("T")


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
        path = Path(builtin_path(name, split) if name in builtin_names() else name)
        files = [file for file in sorted(path.rglob("*")) if file.is_file()]
        if path.is_file():
            files = [path]
        if not files:
            return None
        hashes += [f"{split} {file} {hash_file(file)}" for file in files]
    return hashes


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
    options = ReadOptions(
        source.format or data.format,
        data.role_map if source.role_map is None else source.role_map,
        Limits(data.max_file_bytes, data.max_line_bytes, data.max_ratio),
        data.streaming,
    )
    is_builtin = source.path in builtin_names()
    path = builtin_path(source.path, split) if is_builtin else source.path
    return Source(source.path, source.weight, examine(path, options=options))


def _all_whole(sources: list[Source]) -> list[Source]:
    problems: list[Problem] = [p for source in sources for p in source.reading.problems]
    if problems:
        raise_all(problems)
    return sources
