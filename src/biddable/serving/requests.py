"""Say what is asked of an engine, and what it tells while it answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from biddable.data.segments import ChatTemplate

Reason = Literal["stop", "length", "cancelled", "timeout", "error"]


@dataclass(frozen=True, slots=True)
class Asked:
    """Hold one answer that is wanted.

    Attributes:
        ids: of the prompt.
        stop_ids: ids that end the answer.
        template: what the prompt was written in, which reads the answer; None for bare text.
        stops: texts that end the answer; they are not part of it.
        max_new_tokens: most ids the answer may have, its stop counted; None for as many as fit.
        temperature: 0 takes the likeliest id; else ids are drawn.
        top_p: when drawing, the share of probability that is drawn from.
        seed: the same seed draws the same answer.
        number: which of several answers to one prompt it is; each has draws of its own.
        top_logprobs: how many likely ids are told at each place, 0 for the chosen alone; None
            tells no probabilities.
        deadline: in seconds of ``time.monotonic``; an answer that takes longer is given up.
    """

    ids: Sequence[int]
    stop_ids: frozenset[int]
    template: ChatTemplate | None = None
    stops: tuple[str, ...] = ()
    max_new_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    number: int = 0
    top_logprobs: int | None = None
    deadline: float = float("inf")


@dataclass(frozen=True, slots=True)
class Chosen:
    """Hold an id that was written, or might have been.

    Attributes:
        text: what it reads.
        logprob: in nats, of the model itself: before temperature and top_p.
        others: the likeliest ids at its place.
    """

    text: str
    logprob: float
    others: tuple[Chosen, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """Hold a piece of an answer: its text, and the ids since the last piece if they are told."""

    text: str
    tokens: tuple[Chosen, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """Say that an answer has ended, and how.

    Attributes:
        reason: ``stop`` if it ended by itself or at a stop, ``length`` if it was cut.
        num_tokens: ids that were written, without the stop id.
        message: of an error.
    """

    reason: Reason
    num_tokens: int
    message: str = ""


Listener = Callable[[Piece | Ended], None]


@dataclass(eq=False, slots=True)
class Ticket:
    """Hold one answer's place in an engine; any thread may cancel it or shorten its time."""

    asked: Asked
    listen: Listener
    deadline: float = float("inf")
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Give the answer up at the next id."""
        self._cancelled.set()

    def hurry(self, deadline: float) -> None:
        """Give the answer up at this time, if not before."""
        self.deadline = min(self.deadline, deadline)

    def given_up(self) -> Reason | None:
        """Say why the answer is to be given up; None if it is not."""
        if self._cancelled.is_set():
            return "cancelled"
        return "timeout" if time.monotonic() > self.deadline else None
