"""Render with a Jinja chat template: a tokenizer's own, a user's file, or a family's by name.

Jinja gives text only. Control tokens that a row spells are kept apart from those that the template
writes (control_text.py), the answers are found and proven by rendering again (answer_spans.py), and
the text is cut there into segments.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING

from biddable.data.answer_spans import Answer, AnswerFinder
from biddable.data.control_text import StandIns, any_of, strings_of
from biddable.data.conversation import Message
from biddable.data.jinja_rendering import (
    ANSWERED,
    ASKED,
    ASKED_MORE,
    REASONING_TAGS,
    TOLD,
    Chat,
    JinjaRenderer,
)
from biddable.data.segments import (
    ChatTemplate,
    ControlText,
    History,
    Segment,
    Tools,
    require_answer,
    without_answer,
)
from biddable.errors import TemplateError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class JinjaTemplate(ChatTemplate):
    """Render as a Jinja source says.

    Attributes:
        renderer: holds the source.
    """

    def __init__(
        self,
        name: str,
        renderer: JinjaRenderer,
        tokenizer: PreTrainedTokenizerBase,
        *,
        control_text: ControlText = "escape",
        history: History = "expand",
    ) -> None:
        """Show the template short exchanges, to learn its stop, its tokens and its markers.

        Args:
            name: as in ``get_template``.
            renderer: of the Jinja source.
            tokenizer: says which tokens there are.
            control_text: see ``ChatTemplate``.
            history: what becomes of a row whose answers are shown otherwise once the conversation
                goes on: one rendering for each answer, or it is refused.

        Raises:
            TemplateError: the template does not show an answer as what follows its prompt, up to a
                control token.
        """
        super().__init__(tokenizer, control_text=control_text)
        self.name = name
        self.renderer = renderer
        self._history = history
        probes = self._probe_texts()
        self.control_tokens |= _written_tokens(tokenizer, [*probes, renderer.source])
        self._tokens = any_of(self.control_tokens)
        self._finder = AnswerFinder(renderer, self._tokens)
        self._learn_stop()
        self.markers = _text_markers(probes, self._tokens)
        self._doubled_bos = str(tokenizer.bos_token or "") * 2

    @property
    def definition(self) -> str:
        """Give the Jinja source."""
        return "\n".join(dict.fromkeys((self.renderer.source, self.renderer.tool_source)))

    @property
    def saved_source(self) -> str | dict[str, str]:
        """Give the Jinja source as a tokenizer's ``chat_template`` holds it."""
        source, tool_source = self.renderer.source, self.renderer.tool_source
        return source if source == tool_source else {"default": source, "tool_use": tool_source}

    @property
    def stop_texts(self) -> tuple[str, ...]:
        """Name the tokens that end an answer, that of a plain one first, then that of a call."""
        return self._stops

    def render(self, messages: Sequence[Message], *, tools: Tools = ()) -> list[Segment]:
        """Render a conversation that ends with an answer; see ``ChatTemplate.render``."""
        rows = self._render_answers(messages, tools)
        if len(rows) > 1:
            answers = [n for n, m in enumerate(messages, 1) if m.role == "assistant" and m.learn]
            raise TemplateError(self._changes(answers[0]))
        return rows[0]

    def render_prompt(self, messages: Sequence[Message], *, tools: Tools = ()) -> list[Segment]:
        """Render up to where the answer starts; see ``ChatTemplate.render_prompt``."""
        chat, stand_ins = self._chat(messages, tools)
        before = len(without_answer(messages))
        if before < len(messages):
            text = self._find(chat, before, stand_ins).prompt
        else:
            text = self.renderer.text(chat, is_prompt=True, options=self._finder.options)
        history = self._answers(chat, before, known={})
        return self._cut(text, _fitting(history, text), stand_ins)

    def _render_answers(self, messages: Sequence[Message], tools: Tools) -> list[list[Segment]]:
        require_answer(messages)
        learned = [n for n, m in enumerate(messages) if m.role == "assistant" and m.learn]
        if not learned:
            return [self._render_whole(messages, tools)]
        chat, stand_ins = self._chat(messages, tools)
        wanted = {index: self._find(chat, index, stand_ins) for index in learned}
        # What only stands in the history is cut out all the same, as it is in a prompt.
        answers = [*self._answers(chat, learned[-1], known=wanted), wanted[learned[-1]]]
        fitting = _fitting(answers, answers[-1].text)
        changed = [index for index, answer in wanted.items() if answer not in fitting]
        if not changed:
            return [self._cut(answers[-1].text, fitting, stand_ins, learned=wanted.values())]
        if self._history == "refuse":
            raise TemplateError(self._changes(changed[0] + 1))
        return [
            self._cut(one.text, _fitting(answers, one.text), stand_ins, learned=[one])
            for one in wanted.values()
        ]

    def _find(self, chat: Chat, index: int, stand_ins: StandIns) -> Answer:
        try:
            return self._finder.find(chat, index)
        except TemplateError as error:
            raise TemplateError(stand_ins.take_back(str(error))) from error

    def _answers(self, chat: Chat, count: int, *, known: Mapping[int, Answer]) -> list[Answer]:
        """Find the answers among the first messages, as far as they can be proven."""
        found: list[Answer] = []
        for index, message in enumerate(chat.messages[:count]):
            if index in known:
                found.append(known[index])
            elif message["role"] == "assistant":
                with suppress(TemplateError):
                    found.append(self._finder.find(chat, index))
        return found

    def _render_whole(self, messages: Sequence[Message], tools: Tools) -> list[Segment]:
        require_answer(messages)
        chat, stand_ins = self._chat(messages, tools)
        shown = self.renderer.text(chat, options=self._finder.options)
        end = self._finder.end(chat, len(messages) - 1, shown=shown, start=0)
        return self._cut(shown[:end], [], stand_ins)

    def _chat(self, messages: Sequence[Message], tools: Tools) -> tuple[Chat, StandIns]:
        """Write messages down for Jinja, what they spell kept apart from what it writes."""
        chat = self.renderer.chat(messages, tools)
        said = strings_of([chat.messages, chat.tools])
        stand_ins = StandIns(said, self._tokens)
        changed = chat.changed(lambda text: self.escape(stand_ins.put(text)))
        for before, after in zip(chat.messages, changed.messages, strict=True):
            if before["role"] == "assistant":
                after["content"] = self._keep_tags(before["content"], after["content"], stand_ins)
        return changed, stand_ins

    def _said(self, message: Message) -> str:
        """Leave out the tags of reasoning that opens an answer; those may be control tokens."""
        opening, closing = REASONING_TAGS
        said = message.content
        if message.role == "assistant" and _opens_with_reasoning(said):
            said = said.replace(opening, "", 1).replace(closing, "", 1)
        return said

    def _keep_tags(self, content: str, changed: str, stand_ins: StandIns) -> str:
        """Leave the tags of reasoning that opens an answer to the template: they are its own."""
        opening, closing = REASONING_TAGS
        if not _opens_with_reasoning(content):
            return changed
        for tag in (opening, closing):
            changed = changed.replace(stand_ins.put(tag), tag, 1)
        return changed

    def _cut(
        self,
        text: str,
        answers: Sequence[Answer],
        stand_ins: StandIns,
        *,
        learned: Collection[Answer] = (),
    ) -> list[Segment]:
        """Cut a rendering at the borders of its answers and at its control tokens."""
        if self._doubled_bos and text.startswith(self._doubled_bos):
            raise TemplateError(
                f"{self.renderer.what} opens with {self._doubled_bos!r}; one start token is"
                " enough. Take one out of the template."
            )
        borders = [0, *(at for a in answers for at in (a.start, len(a.text))), len(text)]
        segments: list[Segment] = []
        for number, (start, end) in enumerate(pairwise(borders)):
            is_learned = number % 2 == 1 and answers[number // 2] in learned
            at = start
            for match in self._tokens.finditer(text, start, end):
                segments.append(Segment(stand_ins.take_back(text[at : match.start()]), is_learned))
                segments.append(Segment(match[0], is_learned, special=True))
                at = match.end()
            segments.append(Segment(stand_ins.take_back(text[at:end]), is_learned))
        return [segment for segment in segments if segment.text]

    def _probe_texts(self) -> list[str]:
        """Render short exchanges of every kind that the template takes."""
        plain = [Message("user", ASKED), Message("assistant", ANSWERED)]
        call = {
            "type": "function",
            "function": {"name": "look", "arguments": {}},
            "id": "call00001",
        }
        calling = Message("assistant", "", extra={"tool_calls": [call]})
        result = Message("tool", TOLD, extra={"name": "look", "tool_call_id": "call00001"})
        reasoned = Message("assistant", ANSWERED, extra={"reasoning_content": TOLD})
        tool = {"name": "look", "description": "", "parameters": {"type": "object"}}
        kinds = [
            ([*plain, Message("user", ASKED_MORE)], ()),
            ([Message("system", TOLD), *plain], ()),
            ([plain[0], reasoned], ()),
            ([plain[0], calling, result], [{"type": "function", "function": tool}]),
        ]
        texts = []
        for messages, tools in kinds:
            try:
                texts.append(
                    self.renderer.text(self.renderer.chat(messages, tools), is_prompt=True)
                )
            except TemplateError:
                texts.append("")  # it does not take this kind; a row of it says why
        return texts

    def _learn_stop(self) -> None:
        asked = Message("user", ASKED)
        chat = self.renderer.chat([asked, Message("assistant", ANSWERED)])
        plain = self._find_first(chat)
        stop = list(self._tokens.finditer(plain.learned))[-1]
        self.stop_text = stop[0]
        at = plain.learned.index(ANSWERED)
        self.answer_prefix = plain.learned[:at]
        self.answer_suffix = plain.learned[at + 1 : stop.start()]
        if self.stop_text in self.answer_prefix:
            raise TemplateError(
                f"{self.renderer.what} writes {self.stop_text!r}, which ends an answer, before its"
                " text as well, and does not ask with it: what is generated would end there. To"
                " keep the template, let it write what stands before an answer where"
                " add_generation_prompt is set."
            )
        self.notes = tuple(self._remarks(chat))
        stops = [self.stop_text]
        call = {
            "type": "function",
            "function": {"name": "look", "arguments": {}},
            "id": "call00001",
        }
        calling = Message("assistant", "", extra={"tool_calls": [call]})
        try:
            answer: Answer | None = self._finder.find(self.renderer.chat([asked, calling]), 1)
        except TemplateError:
            answer = None  # it shows no calls
        if answer:
            stops.append(list(self._tokens.finditer(answer.learned))[-1][0])
        self._stops = tuple(dict.fromkeys(stops))

    def _remarks(self, chat: Chat) -> Iterator[str]:
        """Name the fixed text that is learned with every answer."""
        what, header, tail = self.renderer.what, self.answer_prefix, self.answer_suffix
        if header.strip():
            why = "does not ask for an answer with all that opens one"
            if self.renderer.text(chat.upto(1), is_prompt=True) == self._without_prompt(chat):
                why = "has no generation prompt (add_generation_prompt changes nothing)"
            yield f"{what} {why}, so {header!r} is learned with every answer"
        if tail.strip():
            yield (
                f"{what} writes {tail!r} between an answer and its stop {self.stop_text}, so that"
                " is learned with every answer"
            )

    def _without_prompt(self, chat: Chat) -> str:
        with suppress(TemplateError):
            return self.renderer.text(chat.upto(1))
        return ""

    def _find_first(self, chat: Chat) -> Answer:
        """Find a plain answer, and settle under which switches it is generated."""
        refusals = []
        for options in ({}, *self.renderer.options):
            self._finder.options = options
            prompt = self.renderer.text(chat.upto(1), is_prompt=True, options=options)
            shown = self.renderer.text(chat, options=options)
            if shown.startswith(prompt):
                return self._finder.find(chat, 1)
            refusals.append((prompt, shown))
        self._finder.options = {}
        return self._finder.find(chat, 1)

    def _changes(self, number: int) -> str:
        return (
            f"{self.renderer.what} shows message {number} otherwise once the conversation goes on"
            " than when it is generated, so the row cannot be learned as one; let data.history be"
            ' "expand" (encode_all makes a row of each answer), or let the template write earlier'
            " answers as it writes the last one."
        )


def _fitting(answers: Sequence[Answer], text: str) -> list[Answer]:
    """Keep the answers that a longer rendering shows as they were generated, in order."""
    fitting: list[Answer] = []
    for answer in answers:
        follows = not fitting or answer.start >= len(fitting[-1].text)
        if follows and text.startswith(answer.text):
            fitting.append(answer)
    return fitting


def _opens_with_reasoning(content: str) -> bool:
    opening, closing = REASONING_TAGS
    return content.lstrip().startswith(opening) and closing in content


def _written_tokens(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> set[str]:
    """Name the added tokens that a template writes, though the tokenizer calls them ordinary."""
    written = "\0".join(texts)
    added = map(str, tokenizer.added_tokens_decoder.values())
    return {token for token in added if token.strip() and token in written}


def _text_markers(probes: Sequence[str], tokens: re.Pattern[str]) -> tuple[str, ...]:
    """Find the marks that a template sets between messages in ordinary text.

    Where a control token ends a message and another opens the next, none of the text between them
    could act alone. Where there is one or none, every line there is a mark.
    """
    signs = re.compile(f"[{ASKED}{ANSWERED}{ASKED_MORE}{TOLD}]")
    markers: list[str] = []
    for probe in probes[:2]:
        opening, *frames = signs.split(probe)
        if len(opening.split("\n")) > 2:
            opening = ""  # a preamble, which is said once
        for frame in (opening, *frames):
            pieces = tokens.split(frame)
            if len(pieces) <= 2:
                lines = (line.strip() for piece in pieces for line in piece.split("\n"))
                markers += [line for line in lines if _is_marker(line)]
    # A mark within a longer one keeps content off both; what else stands in that is a mark too.
    shortest = {m for m in markers if not any(n != m and n in m for n in markers)}
    rests = (piece.strip() for m in markers for piece in any_of(shortest).split(m))
    return tuple(sorted(shortest | {rest for rest in rests if _is_marker(rest)}))


def _is_marker(line: str) -> bool:
    return any(c.isalpha() for c in line) and any(not c.isalnum() and c != " " for c in line)
