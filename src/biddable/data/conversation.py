"""Say what a conversation is: the form every row takes before it is rendered."""

from __future__ import annotations

from dataclasses import dataclass

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Message:
    """Hold what one side said.

    Attributes:
        role: one of ``ROLES``.
        content: the text, unchanged.
        learn: for an assistant's message, whether it is learned or only context.
        input: the text that an Alpaca instruction works on, for the template that shows it apart.
    """

    role: str
    content: str
    learn: bool = True
    input: str = ""

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
        messages: in the order said.
        path: the file it was read from.
        line: 1-based line in that file.
        category: the row's own ``category``, if it has one.
    """

    messages: tuple[Message, ...]
    path: str | None = None
    line: int | None = None
    category: str | None = None

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
