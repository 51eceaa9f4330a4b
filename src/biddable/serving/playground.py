"""Show a page on which one question goes to base and instruct model, and both answers side by side.

The page speaks to the server as any client does, and loads nothing from elsewhere.
"""

from __future__ import annotations

import secrets
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from pydantic import BaseModel, ConfigDict, Field

from biddable.data.builtin import create_instruction_dataset
from biddable.data.conversation import Conversation, Message
from biddable.data.encoding import Example, encode
from biddable.data.preview import pieces
from biddable.errors import BiddableError
from biddable.serving.house import House, ServedModel
from biddable.serving.openai_forms import ChatMessage, ErrorReply
from biddable.serving.prompts import PromptWriter
from biddable.serving.server_errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Sequence

_CATEGORIES = (
    "question_answering",
    "translation",
    "math",
    "explanation",
    "creative_writing",
    "code_generation",
)


class Shown(BaseModel):
    """Hold one token, or several that make a character together.

    Attributes:
        text: as it reads.
        ids: its own.
        learned: whether training learns it.
        special: whether it is a control token.
    """

    text: str
    ids: list[int]
    learned: bool
    special: bool


class Rendered(BaseModel):
    """Hold what a model is given, token by token."""

    pieces: list[Shown]
    num_tokens: int


class RenderRequest(BaseModel):
    """Ask how messages look to a model; with an answer at their end, as a row to learn from."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, Field(max_length=1024)]
    messages: Annotated[list[ChatMessage], Field(min_length=1)]


class ModelInfo(BaseModel):
    """Describe a model: its name, and how it is asked."""

    name: str
    template: str | None
    shows_tokens: bool


class Info(BaseModel):
    """Say what the page needs to know of the server."""

    models: list[ModelInfo]
    examples: list[str]
    has_report: bool
    most_new_tokens: int | None


def playground(house: House) -> APIRouter:
    """Make the routes of the page.

    Args:
        house: what is served.
    """
    router = APIRouter()
    failures: dict[int | str, dict[str, Any]] = {
        code: {"model": ErrorReply} for code in (400, 401, 403, 404, 413)
    }

    @router.get("/", response_class=HTMLResponse)
    async def page() -> HTMLResponse:
        """Show the page."""
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
            "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )
        headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store"}
        return HTMLResponse(_page().render(nonce=nonce), headers=headers)

    @router.get("/playground/info", responses=failures)
    async def info() -> Info:
        """Say which models there are and what may be asked."""
        report = house.settings.report
        is_small = any(model.based_on == "mimic" for model in house.models.values())
        return Info(
            models=[_describe(model) for model in house.models.values()],
            examples=example_questions("mimic" if is_small else "starter"),
            has_report=report is not None and report.is_file(),
            most_new_tokens=house.settings.max_new_tokens,
        )

    @router.post("/playground/render", responses=failures)
    async def render(body: RenderRequest) -> Rendered:
        """Show messages as ids, and what of them training learns."""
        served = house.model(body.model)
        messages = [message.plain() for message in body.messages]
        prompt = await served.write(served.writer.chat, messages, param="messages")
        return _rendered(served, messages, prompt.ids)

    return router


def example_questions(name: str) -> list[str]:
    """Take a question of several categories out of built-in rows that no training sees.

    Those that a model should refuse are not among them: the page is shown to colleagues.

    Example:
        >>> example_questions("mimic")[0]
        'What is the capital of France?'
    """
    rows = create_instruction_dataset(name, "held_out")
    fit = [row for row in reversed(rows) if row.get("kind", "benign") == "benign"]
    first = {row["category"]: row["instruction"] for row in fit}
    return [first[category] for category in _CATEGORIES]


def _rendered(served: ServedModel, messages: Sequence[Message], ids: list[int]) -> Rendered:
    writer = served.writer
    if not isinstance(writer, PromptWriter):
        raise ApiError(
            400, f'the tokens of "{served.name}" cannot be shown: llama.cpp has its tokenizer.'
        )
    row = Example(ids, [False] * len(ids), "")
    if messages[-1].role == "assistant" and writer.template is not None:
        try:
            row = encode(Conversation(tuple(messages)), writer.template, writer.tokenizer)
        except BiddableError as error:
            raise ApiError(400, str(error), param="messages") from error
    shown = [
        Shown(text=piece.text, ids=list(piece.ids), learned=piece.learned, special=piece.special)
        for piece in pieces(row, writer.tokenizer)
    ]
    return Rendered(pieces=shown, num_tokens=len(row.input_ids))


def _describe(model: ServedModel) -> ModelInfo:
    writer = model.writer
    if not isinstance(writer, PromptWriter):
        return ModelInfo(name=model.name, template="its file's own", shows_tokens=False)
    form = writer.template
    return ModelInfo(
        name=model.name, template=None if form is None else form.name, shows_tokens=True
    )


@cache
def _page() -> Template:
    environment = Environment(
        loader=PackageLoader("biddable.serving", "."), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("playground.html.j2")
