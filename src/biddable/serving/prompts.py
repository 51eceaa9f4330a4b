"""Write prompts for a model as it was taught: messages in its template, or bare text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from biddable.data.conversation import Message
from biddable.data.encoding import encode_prompt
from biddable.data.segment_ids import stop_ids
from biddable.data.templates import ChatTemplate, get_template
from biddable.models.loading import LoadedModel


@dataclass(frozen=True, slots=True)
class Prompt:
    """Hold what a model is given, and what ends its answer.

    Attributes:
        ids: of the prompt.
        stop_ids: ids that end the answer.
        template: what reads the answer; None where it is the bare text.
    """

    ids: list[int]
    stop_ids: frozenset[int]
    template: ChatTemplate | None


class PromptWriter:
    """Turn messages or text into the ids that the model is given."""

    def __init__(self, loaded: LoadedModel, template: str | None) -> None:
        """Take the model, and the name of the template; None gives it bare text.

        Raises:
            TemplateError: the template is unknown, or the tokenizer lacks what it needs.
        """
        self.tokenizer = loaded.tokenizer
        self.template = None
        self._ends = frozenset(loaded.end_ids())
        self._template_ends = self._ends
        if template is not None:
            form = get_template(template, self.tokenizer, control_text=loaded.control_text)
            self.template = form
            self._template_ends |= frozenset(stop_ids(form, self.tokenizer))

    def chat(self, messages: Sequence[Message]) -> Prompt:
        """Write messages, the last of which is to be answered.

        Without a template the model is given what they say, a blank line between two.

        Raises:
            TemplateError: the template cannot show them.
        """
        if self.template is None:
            return self.text("\n\n".join(message.text for message in messages))
        ids = encode_prompt(messages, self.template, self.tokenizer)
        return Prompt(ids, self._template_ends, self.template)

    def text(self, text: str) -> Prompt:
        """Write a text that is to be continued, with nothing but its start token before it."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)[
            "input_ids"
        ]
        return self.ids(([] if self.tokenizer.bos_token_id is None else [self._start]) + ids)

    def ids(self, ids: Sequence[int]) -> Prompt:
        """Take a prompt that is given as ids already."""
        return Prompt(list(ids), self._ends, None)

    @property
    def _start(self) -> int:
        return int(self.tokenizer.bos_token_id)
