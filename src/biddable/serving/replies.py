"""Write what an engine tells as replies of OpenAI's protocol, whole or in chunks."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from biddable.serving.openai_forms import ChatRequest, CompletionRequest
from biddable.serving.requests import Chosen, Ended, Piece

DONE = "data: [DONE]\n\n"


@dataclass(slots=True)
class Answer:
    """Gather one answer."""

    text: str = ""
    tokens: list[Chosen] = field(default_factory=list)
    ended: Ended | None = None

    def take(self, event: Piece | Ended) -> None:
        """Take what the engine tells."""
        if isinstance(event, Ended):
            self.ended = event
        else:
            self.text += event.text
            self.tokens += event.tokens


class ReplyForm:
    """Write the replies to one request."""

    def __init__(self, request: ChatRequest | CompletionRequest, num_prompt_tokens: int) -> None:
        """Take what was asked, and the ids of all its prompts together."""
        self._is_chat = isinstance(request, ChatRequest)
        self._tells_logprobs = request.num_others is not None
        self._others = bool(request.num_others)
        self._wants_usage = request.wants_usage
        self._num_prompt_tokens = num_prompt_tokens
        name = "chatcmpl-" if self._is_chat else "cmpl-"
        self._head = {
            "id": name + secrets.token_hex(12),
            "created": int(time.time()),
            "model": request.model,
        }
        self._offsets: dict[int, int] = {}  # characters of each choice that were told in chunks

    def whole(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """Write the reply that is not streamed."""
        choices = [self._choice(number, answer) for number, answer in enumerate(answers)]
        kind = "chat.completion" if self._is_chat else "text_completion"
        return {**self._head, "object": kind, "choices": choices, "usage": self.usage(answers)}

    def usage(self, answers: Sequence[Answer]) -> dict[str, int]:
        """Count the ids."""
        written = sum(answer.ended.num_tokens for answer in answers if answer.ended)
        return {
            "prompt_tokens": self._num_prompt_tokens,
            "completion_tokens": written,
            "total_tokens": self._num_prompt_tokens + written,
        }

    def opening(self, num_choices: int) -> Iterator[str]:
        """Write what a stream begins with: of a chat, who speaks."""
        if self._is_chat:
            for number in range(num_choices):
                delta = {"role": "assistant", "content": ""}
                yield self._chunk({"index": number, "delta": delta, "logprobs": None})

    def chunk(self, number: int, event: Piece | Ended) -> str:
        """Write one event of one answer as an event of the stream."""
        text = event.text if isinstance(event, Piece) else ""
        tokens = event.tokens if isinstance(event, Piece) else ()
        start = self._offsets.get(number, 0)
        self._offsets[number] = start + len(text)
        choice: dict[str, Any] = {"index": number}
        if self._is_chat:
            choice["delta"] = {"content": text} if isinstance(event, Piece) else {}
        else:
            choice["text"] = text
        choice["logprobs"] = self._logprobs(tokens, start) if tokens else None
        return self._chunk(choice, event.reason if isinstance(event, Ended) else None)

    def closing(self, answers: Sequence[Answer]) -> Iterator[str]:
        """Write what a stream ends with."""
        if self._wants_usage:
            yield event_text({**self._chunk_head(), "choices": [], "usage": self.usage(answers)})
        yield DONE

    def _choice(self, number: int, answer: Answer) -> dict[str, Any]:
        told: dict[str, Any] = {"index": number}
        if self._is_chat:
            told["message"] = {"role": "assistant", "content": answer.text, "refusal": None}
        else:
            told["text"] = answer.text
        told["logprobs"] = self._logprobs(answer.tokens, 0) if self._tells_logprobs else None
        told["finish_reason"] = answer.ended.reason if answer.ended else None
        return told

    def _chunk(self, choice: dict[str, Any], reason: str | None = None) -> str:
        chunk = {**self._chunk_head(), "choices": [{**choice, "finish_reason": reason}]}
        return event_text({**chunk, "usage": None} if self._wants_usage else chunk)

    def _chunk_head(self) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self._is_chat else "text_completion"
        return {**self._head, "object": kind}

    def _logprobs(self, tokens: Sequence[Chosen], start: int) -> dict[str, Any]:
        if self._is_chat:
            return {
                "content": [
                    {**_shown(token), "top_logprobs": list(map(_shown, token.others))}
                    for token in tokens
                ]
            }
        offsets, at = [], start
        for token in tokens:
            offsets.append(at)
            at += len(token.text)
        likely = [{other.text: other.logprob for other in token.others} for token in tokens]
        return {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": likely if self._others else None,
            "text_offset": offsets,
        }


def _shown(token: Chosen) -> dict[str, Any]:
    # the bytes of half a character are not known from its text
    known = None if "\ufffd" in token.text else list(token.text.encode())
    return {"token": token.text, "logprob": token.logprob, "bytes": known}


def event_text(value: dict[str, Any]) -> str:
    """Write a value as an event of a stream."""
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
