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


def unit_of(conversations: Iterable[Sequence[Row]]) -> str:
    """Say what each is called, in the singular.

    Example:
        >>> unit_of([[{}], [{}]]), unit_of([[{}], [{}, {}]])
        ('item', 'conversation')
    """
    return "conversation" if any(len(turns) > 1 for turns in conversations) else "item"
