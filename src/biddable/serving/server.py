"""Offer models over HTTP, as OpenAI's clients know it.

Messages become ids here as they do in evaluation, and an engine answers; nothing else in the
package knows of HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse

from biddable.serving.exchange import Exchange
from biddable.serving.house import House, ServedModel
from biddable.serving.openai_forms import (
    ChatReply,
    ChatRequest,
    CompletionReply,
    CompletionRequest,
    ErrorReply,
    ModelCard,
    ModelList,
)
from biddable.serving.server_errors import ApiError, add_error_replies
from biddable.serving.server_guard import Guard

_NO_REPORT = (
    "no report is served: `biddable compare BASE RUN --out RUN` puts one beside the model, or start"
    " the server with --report FOLDER/report.html."
)


def build_app(house: House, *, routers: Sequence[APIRouter] = ()) -> FastAPI:
    """Build the server's app.

    Args:
        house: what is served.
        routers: further routes, of a page for one.
    """
    app = FastAPI(
        title="biddable",
        docs_url=None,  # its page would be loaded from elsewhere
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.house = house
    add_error_replies(app)
    app.include_router(_api(house))
    app.include_router(_watching(house))
    for router in routers:
        app.include_router(router)
    app.add_middleware(Guard, guarding=house.settings.guarding)
    app.add_middleware(house.metrics.middleware)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    app.state.house.drain(0.0)


def _api(house: House) -> APIRouter:
    statuses = (400, 401, 403, 404, 408, 413, 429, 500, 503, 504)
    router = APIRouter(prefix="/v1", responses={code: {"model": ErrorReply} for code in statuses})

    @router.get("/models")
    async def models() -> ModelList:
        """Name the models."""
        return ModelList(data=[_card(model) for model in house.models.values()])

    @router.get("/models/{name:path}")
    async def model(name: str) -> ModelCard:
        """Tell of one model."""
        return _card(house.model(name))

    @router.post("/chat/completions", response_model=ChatReply)
    async def chat(body: ChatRequest, request: Request) -> Any:
        """Answer a conversation, whole or as a stream of events."""
        served = house.model(body.model)
        messages = [message.plain() for message in body.messages]
        prompt = await served.write(served.writer.chat, messages, param="messages")
        return await Exchange(house, served, body, [prompt]).reply(request)

    @router.post("/completions", response_model=CompletionReply)
    async def completions(body: CompletionRequest, request: Request) -> Any:
        """Continue a text, whole or as a stream of events."""
        served = house.model(body.model)
        prompts = [
            await served.write(served.plain, given, param="prompt") for given in body.prompts
        ]
        return await Exchange(house, served, body, prompts).reply(request)

    return router


def _watching(house: House) -> APIRouter:
    router = APIRouter()

    @router.get("/health")
    async def health() -> dict[str, str]:
        """Tell that the server lives; "closing" once it takes nothing new."""
        return {"status": "closing" if house.is_closing else "ok"}

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Count requests and tokens, in the form that Prometheus reads."""
        page, kind = house.metrics.page()
        return Response(page, media_type=kind)

    @router.get("/report", response_class=FileResponse, responses={404: {"model": ErrorReply}})
    async def report() -> FileResponse:
        """Show the comparison of the run, if it has one."""
        page = house.settings.report
        if page is None or not page.is_file():
            raise ApiError(404, _NO_REPORT)
        return FileResponse(page, media_type="text/html")

    return router


def _card(model: ServedModel) -> ModelCard:
    return ModelCard(id=model.name, created=model.created)
