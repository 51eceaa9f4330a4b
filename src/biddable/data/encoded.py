"""Hold encoded rows as flat arrays: a million of them in the room of their ids.

The arrays may lie in memory or in a mapped file (cache.py); an ``Example`` is made when it is asked
for, and forgotten after.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np
from numpy.typing import NDArray

from biddable.data.id_lists import IdLists, places_of, to_offsets


@dataclass(frozen=True, slots=True)
class Example:
    """Hold one row, encoded.

    Attributes:
        input_ids: length T.
        loss_mask: length T, True where the token itself is learned.
        source: ``file:line`` of the row; empty if unknown.
    """

    input_ids: list[int]
    loss_mask: list[bool]
    source: str = ""

    def __post_init__(self) -> None:
        """Hold the two lists to one length."""
        require_same_length(self.input_ids, self.loss_mask)


@dataclass(frozen=True, eq=False)
class EncodedRows(Sequence[Example]):
    """Hold R encoded rows of N ids in all.

    Attributes:
        input_ids: (N,), int32, row after row.
        loss_mask: (N,), bool, True where the token itself is learned.
        offsets: (R + 1,), int64; row n has the ids from ``offsets[n]`` up to ``offsets[n + 1]``.
        loss_tokens: (R,), int32, how many tokens of each row count in the loss. The first never
            does: nothing comes before it to predict it from.
        sources: ``file:line`` of each row.
        mapped: the files that the arrays are mapped from.
    """

    input_ids: NDArray[np.int32]
    loss_mask: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    loss_tokens: NDArray[np.int32]
    sources: Sequence[str]
    mapped: tuple[mmap.mmap, ...] = ()

    @classmethod
    def of(cls, examples: Sequence[Example]) -> EncodedRows:
        """Flatten examples; those that are flat already are given back as they are.

        Example:
            >>> rows = EncodedRows.of([Example([5, 6], [False, True]), Example([7], [True])])
            >>> rows.input_ids.tolist(), rows.offsets.tolist(), rows.loss_tokens.tolist()
            ([5, 6, 7], [0, 2, 3], [1, 0])
        """
        if isinstance(examples, EncodedRows):
            return examples
        return cls.of_lists(
            IdLists.of([example.input_ids for example in examples]),
            np.frombuffer(b"".join(bytes(e.loss_mask) for e in examples), np.bool_),
            [example.source for example in examples],
        )

    @classmethod
    def of_lists(
        cls, lists: IdLists, loss_mask: NDArray[np.bool_], sources: Sequence[str]
    ) -> EncodedRows:
        """Take rows that are flat already.

        Args:
            lists: the ids of each row.
            loss_mask: (N,), of all rows.
            sources: of each row.
        """
        learned: NDArray[np.int64] = np.diff(to_offsets(loss_mask)[lists.offsets])
        has_first = lists.lengths > 0
        learned[has_first] -= loss_mask[lists.offsets[:-1][has_first]]
        return cls(lists.ids, loss_mask, lists.offsets, learned.astype(np.int32), sources)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """How many ids each row has, (R,)."""
        return np.diff(self.offsets)

    def take(self, numbers: NDArray[np.int64]) -> EncodedRows:
        """Give some rows, in the order of their numbers."""
        places, offsets = places_of(numbers, self.offsets)
        return EncodedRows(
            self.input_ids[places],
            self.loss_mask[places],
            offsets,
            self.loss_tokens[numbers],
            [self.sources[number] for number in numbers],
        )

    def forget(self) -> None:
        """Let go of what was read of mapped files; it is read again where it is asked for.

        Until the system needs the room, it would count as this process's memory.
        """
        for file in self.mapped:
            if hasattr(file, "madvise"):  # not on Windows
                file.madvise(mmap.MADV_DONTNEED)

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        """Make the example of one row, or those of some."""
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        number = range(len(self))[index]  # counts from the end as well, and refuses what is not
        start, end = self.offsets[number], self.offsets[number + 1]
        return Example(
            self.input_ids[start:end].tolist(),
            self.loss_mask[start:end].tolist(),
            self.sources[number],
        )


def require_same_length(input_ids: Sequence[int], loss_mask: Sequence[bool]) -> None:
    """Hold ids and mask to one length.

    Raises:
        ValueError: they differ.
    """
    if len(input_ids) != len(loss_mask):
        raise ValueError(
            f"{len(input_ids)} input_ids and {len(loss_mask)} loss_mask values; they go in pairs."
        )
