"""Hold encoded rows as flat arrays: a million of them in the room of their ids.

The arrays may lie in memory or in a mapped file (cache.py); an ``Example`` is made when it is asked
for, and forgotten after.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import overload

import numpy as np
from numpy.typing import NDArray

from biddable.data.encoding import Example


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
        lengths = [len(example.input_ids) for example in examples]
        loss_tokens = [sum(example.loss_mask[1:]) for example in examples]
        return cls(
            np.fromiter(chain.from_iterable(e.input_ids for e in examples), np.int32, sum(lengths)),
            np.frombuffer(b"".join(bytes(e.loss_mask) for e in examples), np.bool_),
            np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)]),
            np.array(loss_tokens, np.int32),
            [example.source for example in examples],
        )

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """How many ids each row has, (R,)."""
        return np.diff(self.offsets)

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
