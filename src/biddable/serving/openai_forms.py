"""Say what requests and replies of OpenAI's protocol may hold; what is not served is refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from biddable.data.conversation import Message

_MOST_CHOICES, _MOST_STOPS, _MOST_OTHERS = 8, 16, 20
_SEEDS = 1 << 63

Neutral = Annotated[
    Literal[0] | None, Field(description="Not served; 0 or null, which change nothing, are taken.")
]
Stop = Annotated[str, Field(min_length=1, max_length=256)]


class _Form(BaseModel):
    """Refuse what is not known, rather than to ignore it."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class TextPart(_Form):
    """Hold a part of a message; only text is served."""

    type: Literal["text"]
    text: str


class ChatMessage(_Form):
    """Hold what one side said."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[TextPart], Field(min_length=1)]
    name: str | None = None
    tool_call_id: str | None = None

    def plain(self) -> Message:
        """Turn it into a message as templates take them."""
        said = self.content
        text = said if isinstance(said, str) else "".join(part.text for part in said)
        extra = {"name": self.name, "tool_call_id": self.tool_call_id}
        role = "system" if self.role == "developer" else self.role
        return Message(role, text, extra={k: v for k, v in extra.items() if v is not None})


class StreamOptions(_Form):
    """Say what a stream holds besides the answer."""

    include_usage: bool = False


class TextFormat(_Form):
    """Say what form the answer has; only plain text is served."""

    type: Literal["text"]


class _Sampling(_Form):
    """Hold what chats and completions have in common."""

    model: Annotated[str, Field(max_length=1024, description="One of /v1/models.")]
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: Annotated[
        float | None, Field(ge=0, le=2, description="0, also if none is given: the likeliest.")
    ] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    seed: Annotated[int | None, Field(ge=-_SEEDS, lt=_SEEDS)] = None
    n: Annotated[int | None, Field(ge=1, le=_MOST_CHOICES)] = None
    stop: Stop | Annotated[list[Stop], Field(max_length=_MOST_STOPS)] | None = None
    max_tokens: Annotated[int | None, Field(ge=1, lt=1 << 31)] = None
    user: Annotated[str | None, Field(max_length=1024, description="Changes nothing.")] = None
    frequency_penalty: Neutral = None
    presence_penalty: Neutral = None
    logit_bias: Annotated[dict[str, Any] | None, Field(max_length=0)] = None

    @model_validator(mode="after")
    def _stream_options_need_a_stream(self) -> _Sampling:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options stands without stream: true; set it, or leave it out")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        """Give the texts that end an answer."""
        given = self.stop or []
        return (given,) if isinstance(given, str) else tuple(given)

    @property
    def wants_usage(self) -> bool:
        """Tell whether a stream ends with the counts of its tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatRequest(_Sampling):
    """Ask for the answer to a conversation."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=4096)]
    max_completion_tokens: Annotated[int | None, Field(ge=1, lt=1 << 31)] = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int | None, Field(ge=0, le=_MOST_OTHERS)] = None
    response_format: TextFormat | None = None

    @field_validator("messages")
    @classmethod
    def _ends_with_a_question(cls, messages: list[ChatMessage]) -> list[ChatMessage]:
        if messages[-1].role == "assistant":
            raise ValueError(
                "the last message is the assistant's; it is to be one that can be answered"
            )
        return messages

    @model_validator(mode="after")
    def _agrees(self) -> ChatRequest:
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(limits) > 1:
            raise ValueError("max_tokens and max_completion_tokens differ; give one of them")
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        return self

    @property
    def limit(self) -> int | None:
        """Say how many ids an answer may have."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def num_others(self) -> int | None:
        """Say how many likely ids are told at each place; None for no probabilities at all."""
        return (self.top_logprobs or 0) if self.logprobs else None


TokenIds = Annotated[list[Annotated[int, Field(ge=0, lt=1 << 31)]], Field(min_length=1)]


class CompletionRequest(_Sampling):
    """Ask for the continuation of a text."""

    prompt: str | TokenIds | Annotated[list[str | TokenIds], Field(min_length=1, max_length=32)]
    logprobs: Annotated[int | None, Field(ge=0, le=_MOST_OTHERS)] = None
    echo: Literal[False] | None = None
    suffix: Literal[""] | None = None
    best_of: Literal[1] | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """Give the prompts, of which each gets its own choices."""
        given = self.prompt
        if isinstance(given, str):
            return [given]
        if isinstance(given[0], int):
            return [given]  # type: ignore[list-item]  # all are ids, by the form
        return given  # type: ignore[return-value]

    @property
    def limit(self) -> int | None:
        """Say how many ids a continuation may have: 16 where nothing is said, as OpenAI does."""
        return self.max_tokens or 16

    @property
    def num_others(self) -> int | None:
        """Say how many likely ids are told at each place; None for no probabilities at all."""
        return self.logprobs


class ErrorBody(BaseModel):
    """Say what was wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(BaseModel):
    """Hold an error, as OpenAI's clients read it."""

    error: ErrorBody


class ModelCard(BaseModel):
    """Name a model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "biddable"


class ModelList(BaseModel):
    """Name the models that are served."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class Usage(BaseModel):
    """Count the ids of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TokenLogprob(BaseModel):
    """Hold an id's text and its probability."""

    token: str
    logprob: float
    bytes: list[int] | None


class ChosenLogprob(TokenLogprob):
    """Hold an id that was written, and the likeliest ones at its place."""

    top_logprobs: list[TokenLogprob]


class ChatLogprobs(BaseModel):
    """Hold the probabilities of an answer's ids."""

    content: list[ChosenLogprob]


class CompletionLogprobs(BaseModel):
    """Hold the probabilities of a continuation's ids."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class AnswerMessage(BaseModel):
    """Hold what was answered."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """Hold one answer."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length"]


class ChatReply(BaseModel):
    """Hold the answers to a conversation."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class CompletionChoice(BaseModel):
    """Hold one continuation."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length"]


class CompletionReply(BaseModel):
    """Hold the continuations of texts."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
