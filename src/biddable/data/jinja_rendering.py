"""Give messages to a Jinja chat template in the form it reads, and get its text back.

transformers compiles and renders in its sandbox, with the names and filters that public templates
expect. What forms a template reads (contents as text or as parts, arguments of calls as an object
or as JSON) is found by showing it a short exchange, never by its name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jinja2

from biddable.data.control_text import map_strings
from biddable.data.conversation import Message
from biddable.data.segments import Tools
from biddable.errors import TemplateError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Options = Mapping[str, bool]

# Names by which templates let the caller say whether the answer opens with reasoning.
_SWITCHES = ("enable_thinking", "thinking")
# What opens and closes reasoning inside an answer's text, where a row has it there.
REASONING_TAGS = ("<think>", "</think>")

# Signs that no public template writes, to find in its text what a probe said.
ASKED, ANSWERED, ASKED_MORE, TOLD = (chr(0xF8F0 + n) for n in range(4))
_CALL = {
    "id": "call00001",
    "type": "function",
    "function": {"name": "look", "arguments": {"at": ASKED_MORE}},
}


@dataclass(frozen=True, slots=True)
class Chat:
    """Hold the messages and tools of one row as Jinja is given them."""

    messages: list[dict[str, Any]]
    tools: Sequence[Mapping[str, Any]] = ()

    def upto(self, count: int, *more: dict[str, Any]) -> Chat:
        """Keep the first messages, and add others."""
        return Chat([*self.messages[:count], *more], self.tools)

    def changed(self, change: Callable[[str], str]) -> Chat:
        """Change every text that the row gave; roles are ours."""
        messages = [
            {
                key: value if key == "role" else map_strings(value, change)
                for key, value in m.items()
            }
            for m in self.messages
        ]
        return Chat(messages, map_strings(self.tools, change))


class JinjaRenderer:
    """Render with one Jinja source.

    Attributes:
        source: the Jinja source.
        tool_source: the source where tools are given; some tokenizers bring two.
        options: the switches to try, in order, where a rendering does not fit its prompt.
    """

    def __init__(
        self,
        source: str,
        tokenizer: PreTrainedTokenizerBase,
        *,
        what: str,
        tool_source: str | None = None,
    ) -> None:
        """Find out in which forms the template reads contents and arguments.

        Args:
            source: the Jinja source.
            tokenizer: gives the names of its tokens, and the sandbox.
            what: what messages call the template.
            tool_source: see the class.

        Raises:
            TemplateError: it is not Jinja, or it does not show what is said.
        """
        self.source = source
        self.tool_source = tool_source or source
        self.what = what
        self._tokenizer = tokenizer
        self._has_parts = False
        self._arguments_as_text = False
        read = source + self.tool_source
        self.options: list[Options] = [
            {name: value} for name in _SWITCHES if name in read for value in (True, False)
        ]
        self._reads_reasoning = "reasoning_content" in read
        self._choose_content_form()
        self._choose_argument_form()

    @property
    def end_of_text(self) -> str:
        """Name the token that ``eos_token`` writes here, as a message has it in brackets."""
        token = self._tokenizer.eos_token
        return f" ({token})" if token else " (the tokenizer has none yet; give it one)"

    def text(self, chat: Chat, *, is_prompt: bool = False, options: Options | None = None) -> str:
        """Render.

        Args:
            chat: the messages.
            is_prompt: whether the text ends with what asks for an answer.
            options: switches that the template reads.

        Raises:
            TemplateError: the template does not take the messages.
        """
        messages = (
            [self._with_parts(m) for m in chat.messages] if self._has_parts else chat.messages
        )
        switches: dict[str, Any] = dict(options or {})
        try:
            rendered = self._tokenizer.apply_chat_template(
                messages,
                tools=[dict(tool) for tool in chat.tools] or None,
                chat_template=self.tool_source if chat.tools else self.source,
                tokenize=False,
                add_generation_prompt=is_prompt,
                **switches,
            )
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(
                f"{self.what} is not Jinja: line {error.lineno}: {error.message}."
            ) from error
        # A template is a program of others; whatever it fails with is its refusal.
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise TemplateError(f"{self.what} refuses the conversation: {reason}") from error
        return str(rendered)

    def chat(self, messages: Sequence[Message], tools: Tools = ()) -> Chat:
        """Write messages down as the template reads them.

        Raises:
            TemplateError: a message's tool calls are not a list of functions with arguments.
        """
        given = [self._message(message, n) for n, message in enumerate(messages, start=1)]
        return Chat(given, [_wrapped(tool) for tool in tools])

    def _message(self, message: Message, number: int) -> dict[str, Any]:
        given: dict[str, Any] = {"role": message.role, "content": message.text}
        given |= {k: v for k, v in message.extra.items() if k not in given and v is not None}
        if calls := given.get("tool_calls"):
            if not isinstance(calls, (list, tuple)):
                calls = [calls]
            given["tool_calls"] = [self._call(call, number) for call in calls]
        if message.role == "assistant" and self._reads_reasoning:
            _move_reasoning(given)
        return given

    def _call(self, call: Any, number: int) -> dict[str, Any]:
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise TemplateError(
                f"message {number} has tool_calls that are not functions; expected a list of"
                ' {"type": "function", "function": {"name", "arguments"}}.'
            )
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            arguments = _object_in(arguments)
        if self._arguments_as_text and not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        inner = {
            k: v for k, v in function.items() if k not in ("id", "type") or function is not call
        }
        outer = {k: v for k, v in call.items() if k in ("id", "type") or function is not call}
        return {"type": "function", **outer, "function": {**inner, "arguments": arguments}}

    def _choose_content_form(self) -> None:
        probe = self.chat([Message("user", ASKED), Message("assistant", ANSWERED)])
        try:
            text, refusal = self.text(probe), None
        except TemplateError as error:
            text, refusal = "", error
        if ASKED in text and ANSWERED in text:
            return
        self._has_parts = True
        try:
            text = self.text(probe)
        except TemplateError as error:
            raise refusal or error from None
        if not (ASKED in text and ANSWERED in text):
            raise refusal or TemplateError(
                f"{self.what} leaves out what user and assistant say; write"
                " {{ message.content }} of both in it, or use a template that shows both, as"
                ' "chatml" does.'
            )

    def _choose_argument_form(self) -> None:
        """Give arguments as JSON text if the template fails on, or misprints, an object."""
        asked = Message("user", ASKED)
        called = Message("assistant", "", extra={"tool_calls": [_CALL]})
        try:
            text = self.text(self.chat([asked, called]))
            self._arguments_as_text = "{'at'" in text  # Python's way to print an object
        except TemplateError:
            self._arguments_as_text = True
            try:
                self.text(self.chat([asked, called]))
            except TemplateError:
                self._arguments_as_text = False  # it takes neither; say so where it matters

    @staticmethod
    def _with_parts(message: Mapping[str, Any]) -> dict[str, Any]:
        content = message.get("content")
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        return {**message, "content": parts}


def _wrapped(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give a function that stands alone the wrapping that templates expect."""
    is_bare = "function" not in tool and "name" in tool
    return {"type": "function", "function": tool} if is_bare else tool


def _object_in(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, dict) else text


def _move_reasoning(message: dict[str, Any]) -> None:
    """Give reasoning that opens an answer's text in the key that the template reads it from.

    The template would cut the text at the tags by itself, did they not stand for tokens there.
    """
    opening, closing = REASONING_TAGS
    text = message["content"].lstrip()
    if text.startswith(opening) and closing in text and not reasoning_of(message):
        reasoning, _, answer = text.removeprefix(opening).partition(closing)
        message["reasoning_content"] = reasoning.strip("\n")
        message["content"] = answer.lstrip("\n")


def reasoning_of(message: Mapping[str, Any]) -> str:
    """Give the reasoning that a message brings apart from its text, by any name in use."""
    values = (message.get(key) for key in ("reasoning_content", "thinking", "reasoning"))
    return next((value for value in values if isinstance(value, str) and value), "")
