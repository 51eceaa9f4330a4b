"""Carry one request through: put it to the engine, and tell its client what comes back."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from biddable.serving.engine import QueueFull
from biddable.serving.house import House, ServedModel
from biddable.serving.openai_forms import ChatRequest, CompletionRequest
from biddable.serving.prompts import Prompt
from biddable.serving.replies import Answer, ReplyForm, event_text
from biddable.serving.requests import Asked, Ended, Listener, Piece, Ticket
from biddable.serving.server_errors import ApiError

_CLIENT_IS_GONE = 499  # nobody reads it; it is only counted


class Exchange:
    """Answer one request, whole or as a stream."""

    def __init__(
        self,
        house: House,
        served: ServedModel,
        request: ChatRequest | CompletionRequest,
        prompts: Sequence[Prompt],
    ) -> None:
        """Take what is asked, and the prompts that it became."""
        self._house, self._served, self._request = house, served, request
        self._started = time.monotonic()
        self._asked = [
            self._ask(prompt, number) for prompt in prompts for number in range(request.n or 1)
        ]
        self._tickets: list[Ticket] = []
        self._answers = [Answer() for _ in self._asked]
        self._form = ReplyForm(request, sum(len(prompt.ids) for prompt in prompts))
        self._events: asyncio.Queue[tuple[int, Piece | Ended]] = asyncio.Queue()
        house.metrics.read(served.name, sum(len(prompt.ids) for prompt in prompts))

    async def reply(self, http: Request) -> Response:
        """Answer it.

        Raises:
            ApiError: it cannot be answered, or not in time.
        """
        if self._house.is_closing:
            raise ApiError(503, "the server is closing; ask again when it is back.")
        loop = asyncio.get_running_loop()
        listeners = [self._listener(loop, number) for number in range(len(self._asked))]
        try:
            self._tickets = self._served.engine.submit(self._asked, listeners)
        except QueueFull as error:
            raise ApiError(429, str(error), code="queue_full") from error
        if self._request.stream:
            return StreamingResponse(self._stream(), media_type="text/event-stream")
        gathering = asyncio.create_task(self._gather())
        leaving = asyncio.create_task(_left(http))
        try:
            await asyncio.wait({gathering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not gathering.done():
                return Response(status_code=_CLIENT_IS_GONE)
            gathering.result()
        finally:
            gathering.cancel()
            leaving.cancel()
            self._cancel()
        return JSONResponse(self._form.whole(self._answers))

    async def _gather(self) -> None:
        async for _ in self._told():
            pass

    async def _stream(self) -> AsyncIterator[str]:
        """Write the answers as they come; a client that goes away ends them."""
        try:
            for text in self._form.opening(len(self._asked)):
                yield text
            async for number, event in self._told():
                yield self._form.chunk(number, event)
            for text in self._form.closing(self._answers):
                yield text
        except ApiError as error:
            yield event_text(error.body())
        finally:
            self._cancel()

    async def _told(self) -> AsyncIterator[tuple[int, Piece | Ended]]:
        metrics, name = self._house.metrics, self._served.name
        num_open, is_first = len(self._answers), True
        while num_open:
            number, event = await self._events.get()
            self._answers[number].take(event)
            if is_first:
                metrics.first(name, time.monotonic() - self._started)
                is_first = False
            if isinstance(event, Ended):
                num_open -= 1
                metrics.wrote(name, event.num_tokens, event.reason)
                self._require_whole(event)
            yield number, event

    def _require_whole(self, ended: Ended) -> None:
        if ended.reason == "error":
            raise ApiError(500, f"the model failed: {ended.message}")
        if ended.reason in ("timeout", "cancelled"):
            if self._house.is_closing:
                raise ApiError(503, "the server is closing, and could not finish the answer.")
            limit = self._house.settings.timeout_s
            raise ApiError(504, f"the answer took more than {limit:g} seconds.", code="timeout")

    def _listener(self, loop: asyncio.AbstractEventLoop, number: int) -> Listener:
        def listen(event: Piece | Ended) -> None:
            with suppress(RuntimeError):  # the loop has ended, and nobody listens any more
                loop.call_soon_threadsafe(self._events.put_nowait, (number, event))

        return listen

    def _ask(self, prompt: Prompt, number: int) -> Asked:
        request, settings = self._request, self._house.settings
        most, limit = settings.max_new_tokens, request.limit
        if most is not None and limit is not None and limit > most:
            raise ApiError(
                400,
                f"{limit:,} tokens are wanted; this server writes at most {most:,}.",
                param="max_tokens",
            )
        return Asked(
            ids=prompt.ids,
            stop_ids=prompt.stop_ids,
            template=prompt.template,
            stops=request.stops,
            max_new_tokens=most if limit is None else limit,
            temperature=request.temperature or 0.0,
            top_p=1.0 if request.top_p is None else request.top_p,
            seed=self._seed,
            number=number,
            top_logprobs=request.num_others,
            deadline=self._started + settings.timeout_s,
        )

    @property
    def _seed(self) -> int:
        seed = self._request.seed
        return secrets.randbits(62) if seed is None else seed

    def _cancel(self) -> None:
        for ticket in self._tickets:
            ticket.cancel()


async def _left(http: Request) -> None:
    """Wait until the client goes away."""
    while (await http.receive())["type"] != "http.disconnect":
        pass
