"""Offer the chat templates by name: ``inst``, ``alpaca``, ``chatml`` and the tokenizer's own."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from biddable.data.conversation import Message
from biddable.data.segments import (
    ChatTemplate,
    Segment,
    join_plain,
    require_answer,
    without_answer,
)
from biddable.data.tokenizer_template import TokenizerTemplate
from biddable.errors import TemplateError, nearest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "TEMPLATE_NAMES",
    "AlpacaTemplate",
    "ChatMLTemplate",
    "ChatTemplate",
    "InstTemplate",
    "Segment",
    "TokenizerTemplate",
    "get_template",
    "template_hash",
]

_PROBE = (
    Message("system", "S"),
    Message("user", "U"),
    Message("assistant", "A"),
    Message("user", "V", input="I"),
    Message("assistant", "B"),
)


class _TurnTemplate(ChatTemplate):
    """Render turn by turn: what was said since the last answer, then the answer."""

    roles: tuple[str, ...] = ("system", "user")

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if tokenizer.eos_token is None:
            raise TemplateError(
                f'template "{self.name}" ends an answer with the tokenizer\'s end-of-text token,'
                " and this tokenizer has none; set tokenizer.eos_token."
            )
        self.bos_text = str(tokenizer.bos_token or "")
        self.stop_text = str(tokenizer.eos_token)

    def render(self, messages: Sequence[Message]) -> list[Segment]:
        require_answer(messages)
        return [*self.render_prompt(messages), *self._answer(messages[-1])]

    def render_prompt(self, messages: Sequence[Message]) -> list[Segment]:
        segments = [Segment(self.bos_text, learned=False, special=True)] if self.bos_text else []
        turn: list[Message] = []
        is_first = True
        for index, message in enumerate(without_answer(messages), start=1):
            if message.role == "assistant":
                segments += [*self._prompt(turn, is_first=is_first), *self._answer(message)]
                turn, is_first = [], False
            elif message.role in self.roles:
                turn.append(message)
            else:
                raise TemplateError(
                    f'message {index} has role "{message.role}", which template "{self.name}"'
                    ' cannot show; use "chatml" or the tokenizer\'s own template.'
                )
        return [*segments, *self._prompt(turn, is_first=is_first)]

    @property
    def definition(self) -> str:
        segments = [(s.text, s.learned, s.special) for s in self.render(_PROBE)]
        return json.dumps([segments, self.markers])

    @abstractmethod
    def _prompt(self, turn: Sequence[Message], *, is_first: bool) -> list[Segment]: ...

    def _answer(self, message: Message) -> list[Segment]:
        text = self.answer_prefix + self.escape(message.content) + self.answer_suffix
        return [
            Segment(text, message.learn),
            Segment(self.stop_text, message.learn, special=True),
        ]

    def _require_user(self, turn: Sequence[Message]) -> None:
        if all(message.role != "user" for message in turn):
            raise TemplateError(
                f'template "{self.name}" needs a message of the user before each answer; add one,'
                ' or use "chatml".'
            )


class InstTemplate(_TurnTemplate):
    """Render ``[INST] {user} [/INST] {answer}``; a system message stands before the user's."""

    name = "inst"
    answer_prefix = " "
    markers = ("[INST]", "[/INST]")

    def _prompt(self, turn: Sequence[Message], *, is_first: bool) -> list[Segment]:
        self._require_user(turn)
        text = "\n\n".join(self.escape(message.text) for message in turn)
        return [Segment(f"[INST] {text} [/INST]", learned=False)]


class AlpacaTemplate(_TurnTemplate):
    """Render Stanford Alpaca's form; a system message stands before the preamble."""

    name = "alpaca"
    markers = ("### Instruction:", "### Input:", "### Response:")

    _PREAMBLE = (
        "Below is an instruction that describes a task. Write a response that appropriately"
        " completes the request."
    )
    _PREAMBLE_INPUT = (
        "Below is an instruction that describes a task, paired with an input that provides"
        " further context. Write a response that appropriately completes the request."
    )

    def _prompt(self, turn: Sequence[Message], *, is_first: bool) -> list[Segment]:
        self._require_user(turn)
        system = [self.escape(m.content) for m in turn if m.role == "system"]
        asked = "\n\n".join(self.escape(m.content) for m in turn if m.role == "user")
        given = "\n\n".join(self.escape(m.input) for m in turn if m.input)
        parts = [*system, f"### Instruction:\n{asked}"]
        if given:
            parts.append(f"### Input:\n{given}")
        if is_first:
            parts.insert(len(system), self._PREAMBLE_INPUT if given else self._PREAMBLE)
        text = "\n\n".join([*parts, "### Response:\n"])
        return [Segment(text if is_first else f"\n\n{text}", learned=False)]


class ChatMLTemplate(_TurnTemplate):
    """Render ChatML; where the vocabulary lacks a marker, it is text, and end-of-text follows."""

    name = "chatml"
    roles = ("system", "user", "tool")

    _START, _END = "<|im_start|>", "<|im_end|>"

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Find which markers are control tokens of this vocabulary.

        Raises:
            TemplateError: the tokenizer has no end-of-text token.
        """
        super().__init__(tokenizer)
        self._control = {m for m in (self._START, self._END) if is_control(m, tokenizer)}
        self.markers = tuple(m for m in (self._START, self._END) if m not in self._control)
        if self._END in self._control:
            self.stop_text = self._END
        else:
            self.answer_suffix = self._END
        if self.bos_text == self._START:
            self.bos_text = ""  # the first message brings it

    def _prompt(self, turn: Sequence[Message], *, is_first: bool) -> list[Segment]:
        segments = [] if is_first else [Segment("\n", learned=False)]
        for message in turn:
            segments += [
                self._marker(self._START),
                Segment(f"{message.role}\n{self.escape(message.text)}", learned=False),
                self._marker(self._END),
                Segment("\n", learned=False),
            ]
        segments += [self._marker(self._START), Segment("assistant\n", learned=False)]
        return join_plain(segments)

    def _marker(self, text: str) -> Segment:
        return Segment(text, learned=False, special=text in self._control)


_TEMPLATES: dict[str, type[_TurnTemplate]] = {
    template.name: template for template in (InstTemplate, AlpacaTemplate, ChatMLTemplate)
}
TEMPLATE_NAMES = (*_TEMPLATES, "tokenizer")


def get_template(name: str | None, tokenizer: PreTrainedTokenizerBase) -> ChatTemplate:
    """Make a template fit for a tokenizer.

    Args:
        name: ``inst``, ``alpaca``, ``chatml`` or ``tokenizer`` (its own Jinja template). None: the
            tokenizer's own if it has one, else ``inst``.
        tokenizer: gives the control tokens, and its own template.

    Raises:
        TemplateError: the name is unknown, or the tokenizer lacks what the template needs.
    """
    if name is None:
        name = "tokenizer" if tokenizer.chat_template else "inst"
    if name == "tokenizer":
        return TokenizerTemplate(tokenizer)
    if name not in _TEMPLATES:
        raise TemplateError(
            f'unknown template "{name}"; known: {", ".join(TEMPLATE_NAMES)}.'
            f"{nearest(name, TEMPLATE_NAMES)}"
        )
    return _TEMPLATES[name](tokenizer)


def template_hash(template: ChatTemplate) -> str:
    """Hash what a template does (SHA-256, hex), so that runs with another text are told apart."""
    return hashlib.sha256(f"{template.name}\n{template.definition}".encode()).hexdigest()


def is_control(text: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell whether a text is one token of its own in the vocabulary, and not the unknown one."""
    token_id = tokenizer.convert_tokens_to_ids(text)
    return token_id is not None and tokenizer.convert_ids_to_tokens(token_id) == text
