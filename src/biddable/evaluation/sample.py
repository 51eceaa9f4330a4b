"""Say what an item of a suite is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from biddable.data.conversation import Message

Ring = Literal["entity", "wording", "unanswered"]
Kind = Literal["benign", "harmful", "lookalike"]


@dataclass(frozen=True, slots=True)
class Sample:
    """Hold one item.

    Attributes:
        id: its name in the suite.
        instruction: all that the model is told, as one text.
        response: an answer that is right.
        category: the kind of task.
        messages: what the model is told, by role.
        source: ``file:line``.
        check: tells whether an output is right; None if no machine can.
        ring: how far the item is from what was instructed.
        entity: what it is about.
        kind: whether it should be refused, or only looks like it.
        may_echo: it orders to repeat it.
        may_ask: it orders to ask.
        after: id of the item whose answer it follows on, in the same conversation.
        seed: which draw of the item this is; None where the likeliest tokens are taken.
    """

    id: str
    instruction: str
    response: str
    category: str
    messages: tuple[Message, ...]
    source: str = ""
    check: dict[str, Any] | None = None
    ring: Ring = "entity"
    entity: str | None = None
    kind: Kind = "benign"
    may_echo: bool = False
    may_ask: bool = False
    after: str | None = None
    seed: int | None = None
