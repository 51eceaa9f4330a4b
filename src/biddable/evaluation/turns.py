"""Put the turns of a conversation together again: in samples.jsonl each is a row of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def conversations_of(rows: Iterable[Row]) -> list[list[Row]]:
    """Group rows into conversations, in the order of their first turns.

    Args:
        rows: of samples.jsonl, one draw of each item, an earlier turn before a later one.

    Returns:
        The turns of each; an item that follows on no other is a conversation of one turn.

    Example:
        >>> rows = [{"id": "1-1"}, {"id": "2"}, {"id": "1-2", "after": "1-1"}]
        >>> [[row["id"] for row in turns] for turns in conversations_of(rows)]
        [['1-1', '1-2'], ['2']]
    """
    found: list[list[Row]] = []
    places: dict[str, list[Row]] = {}
    for row in rows:
        after = row.get("after")
        turns = None if after is None else places.get(str(after))
        if turns is None:
            found.append(turns := [])
        turns.append(row)
        places[str(row["id"])] = turns
    return found


def in_turn(conversations: Sequence[list[Row]]) -> list[list[Row]]:
    """Order conversations so that the first ones are of as many categories as there are.

    Example:
        >>> rows = [{"id": n, "category": name} for n, name in enumerate("aab")]
        >>> [turns[0]["id"] for turns in in_turn(conversations_of(rows))]
        [0, 2, 1]
    """
    seen: dict[str, int] = {}
    ranks = []
    for n, (first, *_) in enumerate(conversations):
        rank = seen[first["category"]] = seen.get(first["category"], -1) + 1
        ranks.append((rank, n))
    return [conversations[n] for _, n in sorted(ranks)]


def unit_of(conversations: Iterable[Sequence[Row]]) -> str:
    """Say what each is called, in the singular.

    Example:
        >>> unit_of([[{}], [{}]]), unit_of([[{}], [{}, {}]])
        ('item', 'conversation')
    """
    return "conversation" if any(len(turns) > 1 for turns in conversations) else "item"
