"""Keep rows that begin alike in one step, as a forward pass can only share what its step has.

Shuffled row by row, eight questions on one document are in eight steps, and each runs the document.
Here such rows are found, and shuffled as one. Which rows of a step share a pass is grouping.py's
matter.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from biddable.data.encoded import EncodedRows
from biddable.data.trees import sort_rows

Numbers = NDArray[np.int64]

_LEAST_IDS = 32  # a shorter start is not worth rows that are less well mixed
_LEAST_SAVED = 0.1  # nor is one that saves a smaller share of the ids that are run
_AT_ONCE = 32  # ids of each row that are compared in one go
_ENDED = -1  # in the place of an id, after a row's last


def find_bunches(rows: EncodedRows, size: int) -> list[list[int]]:
    """Find rows that take fewer ids to run if they are in the same step.

    They are a bunch if their common start goes at least 32 ids beyond the one that more rows have,
    and if running it once for all of them saves at least a tenth of what they take in shuffled
    steps. A preamble that much of the data has is in every step anyway, and makes none.

    Args:
        rows: the examples.
        size: rows in a step; more rows that begin alike are cut into several bunches, sorted by
            their ids.

    Returns:
        The numbers of each bunch's rows, of two at least.

    Example:
        >>> from biddable.data.encoding import Example
        >>> ids = [[document] * 40 + [question] for question in (7, 8) for document in (1, 2)]
        >>> find_bunches(EncodedRows.of([Example(row, [True] * 41) for row in ids]), 2)
        [[0, 2], [1, 3]]
    """
    numbers, depth = np.flatnonzero(rows.lengths), 0
    groups = np.zeros(len(numbers), np.int64)  # rows of the same number are the same up to here
    known = np.zeros(len(numbers), np.int64)  # how long a start a row has in common with more rows
    num_steps = math.ceil(len(rows) / size)
    alike: list[list[int]] = []
    while len(numbers):
        numbers, shared = _compared(rows, numbers, groups=groups, depth=depth)
        lengths = rows.lengths[numbers]
        depth += _AT_ONCE
        firsts = np.flatnonzero(np.diff(groups, prepend=-1))
        sizes = np.diff(firsts, append=len(groups))
        starts = np.minimum.reduceat(np.minimum(depth - _AT_ONCE + shared, lengths), firsts)
        more, rest = starts - known[firsts], np.add.reduceat(lengths, firsts) - sizes * starts
        shuffled, together = np.minimum(sizes, num_steps), -(-sizes // size)  # times it is run
        saved, run = more * (shuffled - together), more * shuffled + rest
        pays = (more >= _LEAST_IDS) & (saved >= _LEAST_SAVED * run)
        alike += [
            numbers[n : n + m].tolist() for n, m in zip(firsts[pays], sizes[pays], strict=True)
        ]
        known = np.where(starts < depth, starts, known[firsts]).repeat(sizes)
        is_first = shared < _AT_ONCE
        is_first[firsts] = True
        groups = np.cumsum(is_first)
        is_open = ~pays.repeat(sizes) & (lengths >= depth)  # its end tells a row from others too
        is_open &= np.bincount(groups[is_open], minlength=len(groups) + 1)[groups] > 1
        numbers, groups, known = numbers[is_open], groups[is_open], known[is_open]
        rows.forget()
    pieces = [
        ordered[n : n + size]
        for ordered in (sort_rows(rows, numbers) for numbers in alike)
        for n in range(0, len(ordered), size)
    ]
    rows.forget()
    return sorted(piece for piece in pieces if len(piece) > 1)


def shuffle_together(
    num_rows: int, bunches: Sequence[Sequence[int]], *, size: int, seed: str
) -> list[int]:
    """Shuffle rows, those of a bunch as one.

    A bunch that a step has no room for waits for the next, and what fits goes before it. It is cut
    only where nothing that is left fits.

    Args:
        num_rows: all of them.
        bunches: as `find_bunches` gives them.
        size: rows in a step.
        seed: of the order.

    Returns:
        The numbers of all rows, step after step.

    Example:
        >>> shuffle_together(6, [[0, 3, 4]], size=3, seed="0:0")
        [2, 5, 1, 0, 3, 4]
    """
    behind = {row for bunch in bunches for row in bunch[1:]}
    order = [row for row in range(num_rows) if row not in behind]  # a bunch is its first row here
    random.Random(seed).shuffle(order)
    if not bunches:
        return order
    members = {bunch[0]: bunch for bunch in bunches}
    waiting: dict[int, deque[int]] = {}  # places in the order, by how many rows stand there
    for place, row in enumerate(order):
        waiting.setdefault(len(members.get(row, (row,))), deque()).append(place)
    rows: list[int] = []
    while waiting:
        room = size - len(rows) % size
        fitting = [count for count in waiting if count <= room]
        count = min(fitting or waiting, key=lambda count: waiting[count][0])
        place = waiting[count].popleft()
        if not waiting[count]:
            del waiting[count]
        chosen = members.get(order[place], (order[place],))
        rows += chosen[:room]
        if rest := chosen[room:]:  # nothing fits, so that it is the first of all that are left
            order[place], members[rest[0]] = rest[0], rest
            waiting.setdefault(len(rest), deque()).appendleft(place)
    return rows


def _compared(
    rows: EncodedRows, numbers: Numbers, *, groups: Numbers, depth: int
) -> tuple[Numbers, Numbers]:
    """Sort the rows of each group by their next ids, and count how many each has in common.

    Args:
        rows: the examples.
        numbers: of N rows, group by group.
        groups: (N,), rising.
        depth: where the next ids begin.

    Returns:
        The numbers, and how many of the next `_AT_ONCE` ids each row has in common with the one
        before it; all of them, if that is in another group.
    """
    places = rows.offsets[numbers][:, None] + np.arange(depth, depth + _AT_ONCE)
    is_there = places < rows.offsets[numbers + 1][:, None]
    ids = np.where(is_there, rows.input_ids[places.clip(max=len(rows.input_ids) - 1)], _ENDED)
    shared = _shared_with_before(ids, groups)
    if shared.min() < _AT_ONCE:
        order = np.lexsort((*ids.T[::-1], groups))
        numbers, shared = numbers[order], _shared_with_before(ids[order], groups)
    return numbers, shared


def _shared_with_before(ids: NDArray[np.int32], groups: Numbers) -> Numbers:
    shared = np.full(len(ids), _AT_ONCE)
    differs = ids[1:] != ids[:-1]
    has_other = differs.any(axis=1) & (groups[1:] == groups[:-1])
    shared[1:][has_other] = differs[has_other].argmax(axis=1)
    return shared
