"""Say what a template is: it renders a conversation as segments of text.

Each segment says whether it is learned; nothing else in the path decides that. A segment is encoded
by itself (encoding.py), so the borders drawn here are borders between tokens, and the prompt in
training is the prompt that generation is given. Nothing here knows ids or tensors.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from biddable.data.control_text import any_of, strings_of
from biddable.data.conversation import Conversation, Message
from biddable.errors import TemplateError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Learn = Literal["answers", "last_answer", "all"]
ControlText = Literal["escape", "refuse"]
History = Literal["expand", "refuse"]
Tools = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Segment:
    """Hold a piece of rendered text.

    Attributes:
        text: the text; a control token's name if ``special``.
        learned: whether the model is to produce it.
        special: whether it becomes the one id of that control token. Text of a user never does.
    """

    text: str
    learned: bool
    special: bool = False


class ChatTemplate(ABC):
    """Render conversations in one form.

    Attributes:
        name: as in ``get_template``.
        bos_text: the control token put before the conversation; empty if there is none.
        stop_text: the control token that ends an answer; it is learned.
        answer_prefix: what stands between the prompt and the answer's text; it is learned.
        answer_suffix: what stands between the answer's text and the stop; it is learned.
        markers: marks of this template that are ordinary text; ``escape`` keeps content off them.
        notes: what the form does that a user might not expect, a line each.
        control_tokens: the tokens that no text of a row ever becomes.
        control_text: what becomes of a text that spells a marker: escaped, or refused.
    """

    name: str
    bos_text: str = ""
    stop_text: str
    answer_prefix: str = ""
    answer_suffix: str = ""
    markers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    control_tokens: frozenset[str]
    control_text: ControlText

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, control_text: ControlText) -> None:
        """Note the tokenizer's special tokens, and what opens and ends a plain text."""
        self.control_text = control_text
        self.control_tokens = frozenset(special_tokens(tokenizer))
        self._document = (str(tokenizer.bos_token or ""), str(tokenizer.eos_token or ""))

    @abstractmethod
    def render(self, messages: Sequence[Message], *, tools: Tools = ()) -> list[Segment]:
        """Render a conversation that ends with an answer, up to and with its stop.

        Raises:
            TemplateError: the last message is not an answer, this form cannot show one of them, or
                it shows an answer otherwise once the conversation goes on.
        """

    @abstractmethod
    def render_prompt(self, messages: Sequence[Message], *, tools: Tools = ()) -> list[Segment]:
        """Render the segments of ``render`` that come before the last answer.

        Args:
            messages: with or without the last answer.
            tools: the functions that may be called.

        Raises:
            TemplateError: this form cannot show one of the messages.
        """

    @property
    @abstractmethod
    def definition(self) -> str:
        """Tell all that the template does, for a hash of it."""

    @property
    def stop_texts(self) -> tuple[str, ...]:
        """Name every control token that ends an answer of some kind, ``stop_text`` first."""
        return (self.stop_text,)

    def render_rows(
        self, conversation: Conversation, *, learn: Learn = "answers"
    ) -> list[list[Segment]]:
        """Render a row as what is learned from it: one rendering, or one for each answer.

        Args:
            conversation: ends with an answer, or is a plain text, all of which is learned.
            learn: the answers that are marked so, the last answer only, or everything.

        Raises:
            TemplateError: this form cannot show the conversation.
        """
        if conversation.text is not None:
            return [self._render_text(conversation.text)]
        messages = conversation.messages
        if learn == "last_answer":
            messages = (*(replace(m, learn=False) for m in messages[:-1]), *messages[-1:])
        if learn == "all":
            whole = self._render_whole(messages, conversation.tools)
            return [[replace(segment, learned=True) for segment in whole]]
        return self._render_answers(messages, conversation.tools)

    def spells_control(self, conversation: Conversation) -> bool:
        """Tell whether a row spells a control token or a marker of this template."""
        said = [conversation.text or ""]
        if conversation.tools:
            said += strings_of(conversation.tools)
        for message in conversation.messages:
            said += (self._said(message), message.input)
            if message.extra:
                said += strings_of(message.extra)
        return any(map(self._spelled_pattern.search, said))

    def escape(self, text: str) -> str:
        r"""Put a backslash before each marker that content spells, so that it cannot act as one.

        ``read_answer`` takes it away again. (``inst``: ``[/INST]`` becomes ``\[/INST]``.)

        Raises:
            TemplateError: the text spells a marker, and that is to be refused.
        """
        found = self._any_marker.search(text)
        if not found:
            return text
        if self.control_text == "refuse":
            raise TemplateError(
                f'a text spells {found[0]!r}, a mark of template "{self.name}" that is ordinary'
                ' text; reword it, or set data.control_text to "escape".'
            )
        return self.marker_pattern.sub(r"\\\g<0>", text)

    def read_answer(self, output: str) -> str:
        """Take out of generated text what the template adds to an answer.

        Args:
            output: generated text without its stop token.

        Returns:
            The answer as a row would have it.
        """
        output = output.removeprefix(self.answer_prefix).removesuffix(self.answer_suffix)
        return self.unescape(output)

    def unescape(self, text: str) -> str:
        """Take away the backslash that ``escape`` has put before each marker."""
        pattern = self.marker_pattern
        return pattern.sub(lambda m: m[0].removeprefix("\\"), text) if self.markers else text

    def _said(self, message: Message) -> str:
        return message.content

    def _render_answers(self, messages: Sequence[Message], tools: Tools) -> list[list[Segment]]:
        return [self.render(messages, tools=tools)]

    def _render_whole(self, messages: Sequence[Message], tools: Tools) -> list[Segment]:
        return self.render(messages, tools=tools)

    def _render_text(self, text: str) -> list[Segment]:
        start, end = self._document
        segments = [
            Segment(start, learned=True, special=True),
            Segment(text, learned=True),
            Segment(end, learned=True, special=True),
        ]
        return [segment for segment in segments if segment.text]

    @cached_property
    def _any_marker(self) -> re.Pattern[str]:
        return any_of(self.markers)

    @cached_property
    def marker_pattern(self) -> re.Pattern[str]:
        """Match a marker with all backslashes before it."""
        return re.compile(rf"\\*(?:{self._any_marker.pattern})")

    @cached_property
    def _spelled_pattern(self) -> re.Pattern[str]:
        return any_of([*self.control_tokens, *self.markers])


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """Name the tokens that a tokenizer calls special."""
    added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    return added | set(map(str, tokenizer.all_special_tokens))


def require_answer(messages: Sequence[Message]) -> None:
    """Refuse a conversation that does not end with an answer.

    Raises:
        TemplateError: it does not.
    """
    if not messages or messages[-1].role != "assistant":
        raise TemplateError(
            "the conversation does not end with an answer; add one, or use render_prompt."
        )


def without_answer(messages: Sequence[Message]) -> Sequence[Message]:
    """Leave out the last message if it is an answer."""
    return messages[:-1] if messages and messages[-1].role == "assistant" else messages


def join_plain(segments: Sequence[Segment]) -> list[Segment]:
    """Join neighbours that are plain text, for they are encoded as one.

    Example:
        >>> parts = [Segment("a", False), Segment("b", False), Segment("<s>", False, special=True)]
        >>> [segment.text for segment in join_plain(parts)]
        ['ab', '<s>']
    """
    joined: list[Segment] = []
    for segment in segments:
        if joined and not segment.special and not joined[-1].special:
            joined[-1] = Segment(joined[-1].text + segment.text, segment.learned)
        else:
            joined.append(segment)
    return joined
