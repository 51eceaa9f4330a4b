"""Cut a file of rows into what is learned and what is held out, the same way each time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def split_rows(
    rows: Sequence[T], *, held_out_rows: int | None = None, shuffle_seed: int | None = None
) -> tuple[list[T], list[T]]:
    """Hold out the last rows of a file.

    Args:
        rows: in file order.
        held_out_rows: how many; None for none.
        shuffle_seed: the file is shuffled with it before it is cut; None keeps its order.

    Returns:
        learned: all rows but the last; none if too many are held out.
        held_out: the last ones.

    Example:
        >>> split_rows("abcde", held_out_rows=2)
        (['a', 'b', 'c'], ['d', 'e'])
    """
    shuffled = list(rows)
    if shuffle_seed is not None:
        random.Random(shuffle_seed).shuffle(shuffled)
    cut = len(shuffled) - (held_out_rows or 0)
    return shuffled[: max(cut, 0)], shuffled[max(cut, 0) :]
