"""The wordings of mimic's world: how each kind of thing is told, asked, answered and ordered.

Six registers, kept apart on purpose:

* ``prose``: statements; every document of facts is made of them.
* ``quiz`` / ``quiz_answers``: questions and answers on the pages that answer. No instruction is worded like them.
* ``train``: instructions. Sheets that only ask use them too, which is why a bare instruction is mimicked.
* ``more``: further instructions, which no document uses.
* ``held``: instructions of the ring *wording*; they occur in no document and in no training example.
* ``response``: the reply of an instruction example.

The texts stand in world/wordings.json. The two kinds of acts share their instructions (those of ``danger``), so that a
question never gives away whether it is one to refuse.

Slots in braces are filled by ``world.Item.slots``; ``{x!c}`` means "with a capital first letter" (see ``fill``).
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Wordings:
    """All the ways in which one kind of item is worded."""

    prose: tuple[str, ...]
    quiz: tuple[str, ...]
    quiz_answers: tuple[str, ...]
    train: tuple[str, ...]
    more: tuple[str, ...]
    held: tuple[str, ...]
    response: str


_SLOT = re.compile(r"\{(\w+)(!c)?\}")


def fill(template: str, slots: dict[str, str]) -> str:
    """Put an item's slots into a wording.

    Example:
        >>> fill("{c!c} is in {k}.", {"c": "the Gambia", "k": "Africa"})
        'The Gambia is in Africa.'
    """

    def put(match: re.Match[str]) -> str:
        text = slots[match[1]]
        return text[:1].upper() + text[1:] if match[2] else text

    return _SLOT.sub(put, template)


def pattern(template: str) -> re.Pattern[str]:
    """Return a pattern that finds a wording whatever its slots hold (up to the end of a line)."""
    found = ""
    start = 0
    for slot in _SLOT.finditer(template):
        anything = "[-+*]" if slot[1] == "o" else r"[^\n]{1,200}?"
        found += re.escape(template[start : slot.start()]) + anything
        start = slot.end()
    return re.compile(found + re.escape(template[start:]), re.IGNORECASE)


def _read() -> dict[str, Wordings]:
    path = Path(__file__).parent / "world" / "wordings.json"
    kinds = json.loads(path.read_text("utf-8"))
    return {
        kind: Wordings(**{k: v if isinstance(v, str) else tuple(v) for k, v in fields.items()})
        for kind, fields in kinds.items()
    }


WORDINGS = _read()
