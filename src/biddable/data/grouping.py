"""Put rows that begin alike into one forward pass, as many as it is to hold."""

from __future__ import annotations

import math
from collections.abc import Sequence

from biddable.data.encoded import EncodedRows
from biddable.data.trees import shared_lengths


def by_kind(numbers: Sequence[int], kinds: Sequence[int] | None) -> list[list[int]]:
    """Part rows whose kinds differ; the rows of a part keep their order, and none is empty.

    Args:
        numbers: of the rows.
        kinds: of all rows; None if all are of one.

    Example:
        >>> by_kind([3, 0, 2], [0, 7, 9, 0])
        [[3, 0], [2]]
    """
    if kinds is None:
        return [list(numbers)] if numbers else []
    parts: dict[int, list[int]] = {}
    for number in numbers:
        parts.setdefault(kinds[number], []).append(number)
    return [parts[kind] for kind in sorted(parts)]


def group_by_starts(
    rows: EncodedRows,
    ordered: Sequence[int],
    size: int | None = None,
    *,
    max_tokens: int,
    trunk: int = 0,
) -> tuple[tuple[int, ...], ...]:
    """Cut rows into groups whose trees are not too large for a forward pass.

    Args:
        rows: the examples.
        ordered: numbers of rows, as `sort_rows` has them.
        size: rows in a group; None: the groups whose passes cost least.
        max_tokens: unique ids in a group of several rows, its common start apart; or as many as
            that start has, if it is longer.
        trunk: first ids that all rows have in common and that do not count.

    Returns:
        The groups, in order.
    """
    if size is None:
        lengths = (rows.lengths[list(ordered)] - trunk).tolist()
        shared = (shared_lengths(rows, ordered).clip(min=trunk) - trunk).tolist()
        starts = _cheapest_starts(lengths, shared, max_tokens)
    else:
        starts = list(range(0, len(ordered), size))
    ends = [*starts[1:], len(ordered)]
    return tuple(tuple(ordered[a:b]) for a, b in zip(starts, ends, strict=True))


def _cheapest_starts(lengths: list[int], shared: list[int], max_tokens: int) -> list[int]:
    """Find where groups begin so that few ids are run again, in few passes, of like size.

    Args:
        lengths: ids of each of R rows.
        shared: first ids that each has in common with the one before.
        max_tokens: see `group_by_starts`.
    """
    costs, begun = [0.0], [0]  # of the cheapest groups of the first rows; where the last begins
    for end in range(1, len(lengths) + 1):
        common, added = lengths[end - 1], 0
        cheapest, begins = math.inf, 0
        for start in reversed(range(end)):
            size = lengths[start] + added
            if added and size - common > max(max_tokens, common):
                break  # as is any that begins further up
            # in ids: a pass costs as much as a quarter of a full one's, and large ones take memory
            cost = costs[start] + size + max_tokens / 4 + size * size / (4 * max_tokens)
            if cost < cheapest:
                cheapest, begins = cost, start
            common = min(common, shared[start])
            added += lengths[start] - shared[start]
        costs.append(cheapest)
        begun.append(begins)
    starts = [begun[-1]]
    while starts[-1]:
        starts.append(begun[starts[-1]])
    return starts[::-1]
