"""Say what a conversation is: the form every row takes before it is rendered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ROLES = ("system", "user", "assistant", "tool")
CALLING = "function_call"  # what rows call an answer that is the JSON of a call, and nothing else


@dataclass(frozen=True, slots=True)
class Message:
    """Hold what one side said.

    Attributes:
        role: one of ``ROLES``.
        content: the text, unchanged.
        learn: for an assistant's message, whether it is learned or only context.
        input: the text that an Alpaca instruction works on, for the template that shows it apart.
        extra: what else the row's message has, unchanged, for the templates that show it:
            ``tool_calls``, ``tool_call_id``, ``name``, ``reasoning_content`` and the like.
    """

    role: str
    content: str
    learn: bool = True
    input: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        r"""Join content and input, for templates that have no place for the input.

        Example:
            >>> Message("user", "Fix the grammar.", input="He go.").text
            'Fix the grammar.\n\nHe go.'
        """
        return f"{self.content}\n\n{self.input}" if self.input else self.content


@dataclass(frozen=True, slots=True)
class Conversation:
    """Hold the messages of one row, and where the row stands.

    Attributes:
        messages: in the order said; none if the row is plain text.
        path: the file it was read from.
        line: 1-based line in that file.
        category: the row's own ``category``, if it has one.
        tools: the functions that the assistant may call, as JSON schemas.
        text: of a row of plain text, all of which is learned, in no template.
        extra: the row's other keys, unchanged.
    """

    messages: tuple[Message, ...]
    path: str | None = None
    line: int | None = None
    category: str | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    text: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """Name the place as ``file:line``; empty if the conversation is from no file.

        Example:
            >>> Conversation((), path="train.jsonl", line=7).source
            'train.jsonl:7'
        """
        if self.path is None:
            return ""
        return self.path if self.line is None else f"{self.path}:{self.line}"
