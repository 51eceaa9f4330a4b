"""Hold many lists of ids as one flat array, and put lists together without touching single ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import overload

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class IdLists(Sequence[list[int]]):
    """Hold L lists of N ids in all.

    Attributes:
        ids: (N,), int32, list after list.
        offsets: (L + 1,), int64; list n has the ids from ``offsets[n]`` up to ``offsets[n + 1]``.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, lists: Sequence[Sequence[int]]) -> IdLists:
        """Flatten lists.

        Example:
            >>> lists = IdLists.of([[5, 6], [], [7]])
            >>> lists.ids.tolist(), lists.offsets.tolist(), list(lists)
            ([5, 6, 7], [0, 2, 2, 3], [[5, 6], [], [7]])
        """
        offsets = to_offsets(np.fromiter(map(len, lists), np.int64, len(lists)))
        return cls(np.fromiter(chain.from_iterable(lists), np.int32, offsets[-1]), offsets)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """How many ids each list has, (L,)."""
        return np.diff(self.offsets)

    def take(self, numbers: NDArray[np.int64]) -> IdLists:
        """Give the lists of some numbers, in their order; a number may come again.

        Example:
            >>> list(IdLists.of([[5, 6], [], [7]]).take(np.array([2, 0, 2])))
            [[7], [5, 6], [7]]
        """
        places, offsets = places_of(numbers, self.offsets)
        return IdLists(self.ids[places], offsets)

    def __add__(self, other: IdLists) -> IdLists:
        """Put the lists of another behind these."""
        offsets = np.concatenate([self.offsets, other.offsets[1:] + self.offsets[-1]])
        return IdLists(np.concatenate([self.ids, other.ids]), offsets)

    def __len__(self) -> int:
        """Count the lists."""
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> list[int]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[int]]: ...
    def __getitem__(self, index: int | slice) -> list[int] | list[list[int]]:
        """Give one list, or some."""
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        number = range(len(self))[index]  # counts from the end as well, and refuses what is not
        ids: list[int] = self.ids[self.offsets[number] : self.offsets[number + 1]].tolist()
        return ids


def to_offsets(lengths: NDArray[np.int64] | NDArray[np.bool_]) -> NDArray[np.int64]:
    """Say where lists of some lengths start when they stand one after the other, and where all end.

    Example:
        >>> to_offsets(np.array([2, 0, 1])).tolist()
        [0, 2, 2, 3]
    """
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def places_of(
    numbers: NDArray[np.int64], offsets: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Say where in a flat array the ids of some lists stand.

    Args:
        numbers: (M,), the lists.
        offsets: (L + 1,), of all lists.

    Returns:
        The places of their ids, and the offsets that these lists have by themselves, (M + 1,).
    """
    lengths = np.diff(offsets)[numbers]
    own = to_offsets(lengths)
    return np.arange(own[-1]) + np.repeat(offsets[numbers] - own[:-1], lengths), own
