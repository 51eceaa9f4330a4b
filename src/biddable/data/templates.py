"""Offer the chat templates: three of our own, those of known families, a tokenizer's, a user's."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from biddable.data.conversation import Message
from biddable.data.jinja_rendering import JinjaRenderer
from biddable.data.jinja_template import JinjaTemplate
from biddable.data.segments import (
    ChatTemplate,
    ControlText,
    History,
    Segment,
    Tools,
    join_plain,
    require_answer,
    without_answer,
)
from biddable.data.turn_jinja import Frame, alpaca_source, chatml_source, inst_source
from biddable.errors import TemplateError, nearest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "FAMILIES",
    "TEMPLATE_NAMES",
    "AlpacaTemplate",
    "ChatMLTemplate",
    "ChatTemplate",
    "InstTemplate",
    "JinjaTemplate",
    "Segment",
    "get_template",
    "saved_name",
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

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, control_text: ControlText = "escape"
    ) -> None:
        super().__init__(tokenizer, control_text=control_text)
        if tokenizer.eos_token is None:
            raise TemplateError(
                f'template "{self.name}" ends an answer with the tokenizer\'s end-of-text token,'
                " and this tokenizer has none; set tokenizer.eos_token."
            )
        self.bos_text = str(tokenizer.bos_token or "")
        self.stop_text = str(tokenizer.eos_token)

    def render(self, messages: Sequence[Message], *, tools: Tools = ()) -> list[Segment]:
        require_answer(messages)
        _require_text_only(messages[-1], len(messages), self.name)
        prompt = self.render_prompt(messages, tools=tools)
        return [*prompt, *self._answer(messages[-1])]

    def render_prompt(self, messages: Sequence[Message], *, tools: Tools = ()) -> list[Segment]:
        if tools:
            raise TemplateError(
                f'template "{self.name}" cannot show tools; use one that does ("qwen", "mistral"'
                " or the tokenizer's own), or write them into a system message."
            )
        segments = [Segment(self.bos_text, learned=False, special=True)] if self.bos_text else []
        turn: list[Message] = []
        is_first = True
        for index, message in enumerate(without_answer(messages), start=1):
            _require_text_only(message, index, self.name)
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

    @property
    def _frame(self) -> Frame:
        return Frame(
            bos=self.bos_text,
            end=self.answer_suffix + self.stop_text,
            markers=self.markers,
            control_tokens=self.control_tokens,
            control_text=self.control_text,
        )

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

    @property
    def saved_source(self) -> str:
        """Give the form as Jinja."""
        return inst_source(self._frame)

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

    @property
    def saved_source(self) -> str:
        """Give the form as Jinja."""
        first, with_input = self._PREAMBLE, self._PREAMBLE_INPUT
        return alpaca_source(self._frame, preamble=first, preamble_input=with_input)

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

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, control_text: ControlText = "escape"
    ) -> None:
        """Find which markers are control tokens of this vocabulary.

        Raises:
            TemplateError: the tokenizer has no end-of-text token.
        """
        super().__init__(tokenizer, control_text=control_text)
        self._control = {m for m in (self._START, self._END) if is_control(m, tokenizer)}
        self.control_tokens |= self._control
        self.markers = tuple(m for m in (self._START, self._END) if m not in self._control)
        if self._END in self._control:
            self.stop_text = self._END
        else:
            self.answer_suffix = self._END
        if self.bos_text == self._START:
            self.bos_text = ""  # the first message brings it

    @property
    def saved_source(self) -> str:
        """Give the form as Jinja."""
        return chatml_source(self._frame)

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
# The control tokens that each family cannot be written without, where they are not the tokenizer's
# own end of text.
FAMILIES = {
    "llama-3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "mistral": ("[INST]", "[/INST]"),
    "gemma": ("<start_of_turn>", "<end_of_turn>"),
    "phi-3": ("<|user|>", "<|assistant|>", "<|end|>"),
    "zephyr": (),
    "qwen": ("<|im_start|>", "<|im_end|>"),
}
_NEEDS_END = ("mistral", "phi-3", "zephyr")
TEMPLATE_NAMES = (*_TEMPLATES, *FAMILIES, "tokenizer")
_SUFFIXES = (".jinja", ".jinja2", ".j2")


def get_template(
    name: str | None,
    tokenizer: PreTrainedTokenizerBase,
    *,
    control_text: ControlText = "escape",
    history: History = "expand",
) -> ChatTemplate:
    """Make a template fit for a tokenizer.

    Args:
        name: ``inst``, ``alpaca`` or ``chatml``; a family (``llama-3``, ``mistral``, ``gemma``,
            ``phi-3``, ``zephyr``, ``qwen``); ``tokenizer`` (its own Jinja template); or the path of
            a Jinja file (``*.jinja``). None: the tokenizer's own if it has one, else ``inst``.
        tokenizer: gives the control tokens, and its own template.
        control_text: whether a text that spells a mark of the template, where that is ordinary
            text, is escaped or refused.
        history: whether a row whose answers are shown otherwise once the conversation goes on
            becomes a row for each answer, or is refused.

    Raises:
        TemplateError: the name is unknown, the file cannot be used, or the tokenizer lacks what the
            template needs.
    """
    if name is None:
        name = "tokenizer" if tokenizer.chat_template else "inst"
    if name in _TEMPLATES:
        return _TEMPLATES[name](tokenizer, control_text=control_text)
    renderer = _renderer(name, tokenizer)
    return JinjaTemplate(name, renderer, tokenizer, control_text=control_text, history=history)


def _renderer(name: str, tokenizer: PreTrainedTokenizerBase) -> JinjaRenderer:
    if name == "tokenizer":
        if not tokenizer.chat_template:
            raise TemplateError(
                'the tokenizer has no chat template of its own; use "inst", "alpaca" or "chatml".'
            )
        return JinjaRenderer(
            str(tokenizer.get_chat_template()),
            tokenizer,
            what="the tokenizer's chat template",
            tool_source=str(tokenizer.get_chat_template(tools=[{}])),
        )
    if name in FAMILIES:
        _require_tokens(name, tokenizer)
        source = files("biddable").joinpath("assets", "templates", f"{name}.jinja")
        return JinjaRenderer(
            source.read_text(encoding="utf-8"), tokenizer, what=f'template "{name}"'
        )
    if name.endswith(_SUFFIXES) or "/" in name:
        return JinjaRenderer(_read_file(name), tokenizer, what=name)
    raise TemplateError(
        f'unknown template "{name}"; known: {", ".join(TEMPLATE_NAMES)}, or a file'
        f" ({', '.join(_SUFFIXES)}).{nearest(name, TEMPLATE_NAMES)}"
    )


def _require_tokens(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    missing = [repr(token) for token in FAMILIES[name] if not is_control(token, tokenizer)]
    if name in _NEEDS_END and tokenizer.eos_token is None:
        missing.append("an end-of-text token")
    if missing:
        raise TemplateError(
            f'template "{name}" is written with control tokens that this vocabulary lacks:'
            f" {', '.join(missing)}. Add them (method.new_tokens), or use the tokenizer's own"
            ' template, or one that needs none: "inst", "alpaca" or "chatml".'
        )


def _read_file(name: str) -> str:
    path = Path(name)
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        beside = [entry.name for entry in path.parent.glob("*.j*")] if path.parent.is_dir() else []
        raise TemplateError(
            f"{name}: no such file; give the path of a Jinja chat template."
            f"{nearest(path.name, beside)}"
        ) from None
    except UnicodeDecodeError:
        raise TemplateError(f"{name}: not UTF-8; save the file as UTF-8.") from None
    except OSError as error:
        raise TemplateError(f"{name}: cannot be read: {error.strerror}.") from error


def template_hash(template: ChatTemplate) -> str:
    """Hash what a template does (SHA-256, hex), so that runs with another text are told apart."""
    name = saved_name(template)
    return hashlib.sha256(f"{name}\n{template.definition}".encode()).hexdigest()


def saved_name(template: ChatTemplate) -> str:
    """Name a template as a run folder knows it: a user's file becomes the tokenizer's own."""
    return template.name if template.name in TEMPLATE_NAMES else "tokenizer"


def is_control(text: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell whether a text is one token of its own in the vocabulary, and not the unknown one."""
    token_id = tokenizer.convert_tokens_to_ids(text)
    return token_id is not None and tokenizer.convert_ids_to_tokens(token_id) == text


def _require_text_only(message: Message, number: int, name: str) -> None:
    """Refuse what a form of our own would leave out in silence."""
    shown = ("tool_calls", "reasoning_content", "thinking", "reasoning")
    if message.extra and (lost := [key for key in shown if message.extra.get(key)]):
        raise TemplateError(
            f'message {number} has {lost[0]}, which template "{name}" cannot show; use one that'
            ' does ("qwen" or "mistral" for tool calls, or the tokenizer\'s own), or take it out.'
        )
