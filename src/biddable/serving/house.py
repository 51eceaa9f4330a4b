"""Hold what a server offers: its models, how it behaves, and whether it is closing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from biddable.errors import BiddableError
from biddable.serving.metrics import Metrics
from biddable.serving.prompts import Prompt, PromptWriter
from biddable.serving.requests import Asked, Listener, Ticket
from biddable.serving.server_errors import ApiError
from biddable.serving.server_guard import Guarding

Given = TypeVar("Given")


class Answers(Protocol):
    """Say what a server needs of what answers: an `Engine`, or one that is like it.

    Attributes:
        longest: ids that a prompt and its answer may have together.
    """

    longest: int

    @property
    def num_running(self) -> int:
        """Count the answers that are being written."""

    @property
    def num_waiting(self) -> int:
        """Count the answers that have not been begun."""

    def submit(self, asked: Sequence[Asked], listen: Sequence[Listener]) -> list[Ticket]:
        """Put answers in the queue, all or none."""

    def hurry(self, deadline: float) -> None:
        """Give up at this time whatever has not ended by then."""


@dataclass(frozen=True)
class ServedModel:
    """Hold one model that is served.

    Attributes:
        name: what requests call it.
        engine: answers.
        writer: turns messages into ids.
        vocab_size: ids that it knows.
        created: when it was loaded, in seconds since 1970.
    """

    name: str
    engine: Answers
    writer: PromptWriter
    vocab_size: int
    created: int = field(default_factory=lambda: int(time.time()))
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def write(self, write: Callable[[Given], Prompt], given: Given, *, param: str) -> Prompt:
        """Write a prompt beside the server's own thread, one at a time, and check its length.

        Raises:
            ApiError: the model cannot be given this.
        """
        async with self._lock:  # a template is not made for several threads
            try:
                prompt = await asyncio.to_thread(write, given)
            except BiddableError as error:
                raise ApiError(400, str(error), code="invalid_request", param=param) from error
        length, longest = len(prompt.ids), self.engine.longest
        if not length:
            raise ApiError(400, "the prompt is empty; give it some text.", param=param)
        if length >= longest:
            raise ApiError(
                400,
                f"the prompt has {length:,} tokens; the model takes {longest - 1:,} and still has "
                "room to answer. Shorten it.",
                code="context_length_exceeded",
                param=param,
            )
        return prompt

    def plain(self, given: str | list[int]) -> Prompt:
        """Write a prompt that no template is put around.

        Raises:
            ApiError: there are ids that the model does not know.
        """
        if isinstance(given, str):
            return self.writer.text(given)
        if max(given) >= self.vocab_size:
            raise ApiError(
                400,
                f"id {max(given)} is not known; they end at {self.vocab_size - 1}.",
                param="prompt",
            )
        return self.writer.ids(given)


@dataclass(frozen=True)
class ServerSettings:
    """Say how a server behaves.

    Attributes:
        guarding: what is let in.
        timeout_s: seconds that a request may take in all.
        max_new_tokens: most ids an answer may have; None for as many as the model takes.
        report: the page of the run's comparison, if it has one.
    """

    guarding: Guarding = field(default_factory=Guarding)
    timeout_s: float = 300.0
    max_new_tokens: int | None = None
    report: Path | None = None


class House:
    """Hold what the routes of a server share: models, settings, and whether it is closing."""

    def __init__(self, models: Sequence[ServedModel], settings: ServerSettings) -> None:
        """Take the models, the first of which is the one that the server is for."""
        self.models = {model.name: model for model in models}
        self.settings = settings
        self.metrics = Metrics()
        self.is_closing = False
        for model in models:
            self.metrics.watch(model.name, model.engine)

    def model(self, name: str) -> ServedModel:
        """Find a model.

        Raises:
            ApiError: there is none of that name.
        """
        if name not in self.models:
            known = ", ".join(self.models)
            raise ApiError(
                404,
                f'model "{name}" is not served here; these are: {known}.',
                code="model_not_found",
                param="model",
            )
        return self.models[name]

    def drain(self, grace_s: float) -> None:
        """Take nothing new, and give up what has not ended after some seconds."""
        self.is_closing = True
        for model in self.models.values():
            model.engine.hurry(time.monotonic() + grace_s)
