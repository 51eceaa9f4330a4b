"""Say what a template is: it renders a conversation as segments of text.

Each segment says whether it is learned; nothing else in the path decides that. A segment is encoded
by itself (encoding.py), so the borders drawn here are borders between tokens, and the prompt in
training is the prompt that generation is given. Nothing here knows ids or tensors.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from biddable.data.conversation import Message
from biddable.errors import TemplateError


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
    """

    name: str
    bos_text: str = ""
    stop_text: str
    answer_prefix: str = ""
    answer_suffix: str = ""
    markers: tuple[str, ...] = ()

    @abstractmethod
    def render(self, messages: Sequence[Message]) -> list[Segment]:
        """Render a conversation that ends with an answer, up to and with its stop.

        Raises:
            TemplateError: the last message is not an answer, or this form cannot show one of them.
        """

    @abstractmethod
    def render_prompt(self, messages: Sequence[Message]) -> list[Segment]:
        """Render the segments of ``render`` that come before the last answer.

        Args:
            messages: with or without the last answer.

        Raises:
            TemplateError: this form cannot show one of the messages.
        """

    @property
    @abstractmethod
    def definition(self) -> str:
        """Tell all that the template does, for a hash of it."""

    def escape(self, text: str) -> str:
        r"""Put a backslash before each marker that content spells, so that it cannot act as one.

        ``read_answer`` takes it away again. (``inst``: ``[/INST]`` becomes ``\[/INST]``.)
        """
        return self._marker_pattern.sub(r"\\\g<0>", text) if self.markers else text

    def read_answer(self, output: str) -> str:
        """Take out of generated text what the template adds to an answer.

        Args:
            output: generated text without its stop token.

        Returns:
            The answer as a row would have it.
        """
        output = output.removeprefix(self.answer_prefix).removesuffix(self.answer_suffix)
        pattern = self._marker_pattern
        return pattern.sub(lambda m: m[0].removeprefix("\\"), output) if self.markers else output

    @property
    def _marker_pattern(self) -> re.Pattern[str]:
        return re.compile(r"\\*(?:" + "|".join(map(re.escape, self.markers)) + ")")


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
