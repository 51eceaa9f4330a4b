"""Cut a file of rows into what is learned and what is held out, the same way each time."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from biddable.counting import counted
from biddable.data.conversation import Conversation
from biddable.data.wording import question_of, same_text

T = TypeVar("T")

_MAX_NAMED = 3


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


def cut_in_words(
    learned: Sequence[Conversation],
    held_out: Sequence[Conversation],
    *,
    shuffle_seed: int | None = None,
) -> list[str]:
    """Say which rows were held out, and warn where the rows look sorted.

    Args:
        learned: as ``split_rows`` gives them.
        held_out: likewise, not empty.
        shuffle_seed: as it was given to ``split_rows``.

    Returns:
        A line, and a warning where no category of the held-out rows is learned.

    Example:
        >>> rows = [Conversation((), "a.jsonl", n, category="ab"[n > 2]) for n in (1, 2, 3)]
        >>> for line in cut_in_words(rows[:2], rows[2:]):
        ...     print(line[:59])
        the last row of data.train in file order, a.jsonl:3
        no other row is of category "b": data.train looks sorted, s
    """
    if shuffle_seed is not None:
        return [f"{counted(len(held_out), 'row')}, drawn by data.shuffle_seed {shuffle_seed}"]
    first, last = held_out[0].source, held_out[-1].source
    rows = "row" if len(held_out) == 1 else f"{len(held_out):,} rows"
    place = first if first == last else f"{first} to {last}"
    told = [f"the last {rows} of data.train in file order, {place}"]
    own = {row.category for row in held_out}
    if own.isdisjoint({None, *(row.category for row in learned)}):
        kinds = ", ".join(f'"{name}"' for name in sorted(map(str, own))[:_MAX_NAMED])
        told.append(
            f"no other row is of category {kinds}{', ...' * (len(own) > _MAX_NAMED)}: data.train"
            " looks sorted, so the held-out loss is of other tasks than are learned; set"
            " data.shuffle_seed"
        )
    return told


def split_by_hash(keys: Sequence[str], *, held_out: float) -> list[bool]:
    """Choose the rows to hold out by a hash of what each is about, and of nothing else.

    A row's side does not depend on the other rows, so it stays when rows are added, moved or
    deleted; and rows with the same key are on the same side.

    Args:
        keys: what each row is about, see ``content_key`` and ``group_key``.
        held_out: share of the keys, between 0 and 1.

    Returns:
        True for the rows that are held out.

    Example:
        >>> split_by_hash(["Paris", "Rome", "Paris"], held_out=0.5)
        [True, False, True]
    """
    return [_position(key) < held_out for key in keys]


def content_key(conversation: Conversation) -> str:
    """Give the first question as it is compared: all rows that open with it go together."""
    return same_text(question_of(conversation))


def group_key(row: Mapping[str, Any], key: str) -> str | None:
    """Give the value of a row's key as text; None if the row has none.

    Example:
        >>> group_key({"entity": "country:France"}, "entity")
        '"country:France"'
    """
    value = row.get(key)
    return None if value is None else json.dumps(value, sort_keys=True, ensure_ascii=False)


def _position(key: str) -> float:
    """Place a key between 0 and 1, the same on every machine."""
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
