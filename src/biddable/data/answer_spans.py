"""Find where an answer starts and ends in a rendering, and prove it by rendering again.

The text that asks for the answer must be the start of the text that shows it; what follows, up to
the control token that ends it, is what the model has to produce. Nothing here knows a template by
name, and what cannot be shown so is refused with the reason.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from biddable.data.jinja_rendering import (
    ANSWERED,
    ASKED,
    ASKED_MORE,
    Chat,
    JinjaRenderer,
    Options,
    reasoning_of,
)
from biddable.errors import TemplateError

_CUT = 8  # so many characters of a line are shown by no chance
_SWITCH = re.compile(r"(?<!\S)/\w+")


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold one answer as it is generated.

    Attributes:
        text: the conversation up to and with the token that ends the answer.
        start: where the prompt ends in it.
    """

    text: str
    start: int

    @property
    def prompt(self) -> str:
        """Give the text that asks for the answer."""
        return self.text[: self.start]

    @property
    def learned(self) -> str:
        """Give the text that the model is to produce."""
        return self.text[self.start :]


class AnswerFinder:
    """Find the answers in what one template renders.

    Attributes:
        options: the switches under which a plain answer is generated.
    """

    def __init__(self, renderer: JinjaRenderer, control_tokens: re.Pattern[str]) -> None:
        """Take the template and what its control tokens are."""
        self.options: Options = {}
        self._renderer = renderer
        self._tokens = control_tokens
        self._num_kept: dict[tuple[object, ...], int] = {}

    def find(self, chat: Chat, index: int) -> Answer:
        """Find the answer that a message gives to the ones before it.

        Args:
            chat: the messages.
            index: 0-based, of the answer.

        Raises:
            TemplateError: the template does not show the answer as what follows its prompt.
        """
        if index == 0:
            raise TemplateError(
                "the conversation opens with an answer; put what it answers in front, or set"
                ' "learn": false.'
            )
        first = None
        for options in (self.options, {}, *self._renderer.options):
            prompt = self._renderer.text(chat.upto(index), is_prompt=True, options=options)
            shown = self._renderer.text(chat.upto(index + 1), options=options)
            if shown.startswith(prompt):
                end = self.end(chat, index, shown=shown, start=len(prompt), options=options)
                answer = Answer(shown[:end], len(prompt))
                self._require_shown(chat, index, answer)
                return answer
            first = first or (prompt, shown)
        assert first is not None
        raise TemplateError(self._mismatch(*first))

    def end(
        self, chat: Chat, index: int, *, shown: str, start: int, options: Options | None = None
    ) -> int:
        """Find where the last token of an answer ends in the text that shows it.

        Control tokens may follow each other there, and the last may end the whole text instead of
        the answer. Those that stay when the conversation goes on are the answer's.

        Raises:
            TemplateError: no control token ends the answer.
        """
        run: list[re.Match[str]] = []
        at = len(shown)
        for match in reversed(list(self._tokens.finditer(shown, start))):
            if shown[match.end() : at].strip():
                break
            run.insert(0, match)
            at = match.start()
        if not run:
            raise TemplateError(self._no_end(chat, index, shown))
        if len(run) == 1:
            return run[0].end()
        has_calls = bool(chat.messages[index].get("tool_calls"))
        key = (*(match[0] for match in run), has_calls, *sorted((options or {}).items()))
        if key not in self._num_kept:
            onward = self._onward(chat, index, options)
            shared = _num_shared(shown, onward)
            kept = sum(match.end() <= shared for match in run)
            self._num_kept[key] = kept or len(run)
        return run[self._num_kept[key] - 1].end()

    def _onward(self, chat: Chat, index: int, options: Options | None) -> str:
        """Render the answer with whatever the template lets follow it; empty if nothing."""
        more: list[dict[str, Any]] = [{"role": "user", "content": ASKED_MORE}]
        if calls := chat.messages[index].get("tool_calls"):
            result = {"role": "tool", "content": ASKED_MORE, "name": calls[0]["function"]["name"]}
            more.insert(0, result | ({"tool_call_id": calls[0]["id"]} if "id" in calls[0] else {}))
        for message in more:
            try:
                return self._renderer.text(chat.upto(index + 1, message), options=options)
            except TemplateError:
                continue
        return ""

    def _no_end(self, chat: Chat, index: int, shown: str) -> str:
        what = self._renderer.what
        onward = self._onward(chat, index, None)
        shared = _num_shared(shown.rstrip(), onward)
        opener = self._tokens.match(onward, len(onward) - len(onward[shared:].lstrip()))
        after = shown.rpartition(ANSWERED)[2].strip() if ANSWERED in shown else ""
        end = f"{{{{ eos_token }}}}{self._renderer.end_of_text}"
        closed, fix = "", f"write one in it after each answer, as {end}"
        last = next(reversed(list(self._tokens.finditer(after))), None)
        if last:
            rest = after[last.end() :].strip()
            closed = (
                f" (after {last[0]!r} it writes {rest[-40:]!r}, and no control token ends that)"
            )
            fix = f"take that text out of it, or write {end} after it"
        elif after:
            closed = f" (what follows it, {after[-40:]!r}, is ordinary text in this vocabulary)"
            fix = f"end each answer in it with {end} in place of that, or after it"
        elif opener:
            closed = (
                f" (it closes it with {opener[0]!r}, which opens the next turn and is no part of"
                " the answer)"
            )
            fix = f"write one in it after each answer, before {opener[0]!r}: {end}"
        return (
            f"{what} ends an answer with no control token{closed}, so no model could learn to"
            f' stop. To keep the template, {fix}; or use another, as "inst", "alpaca" or "chatml".'
        )

    def _mismatch(self, prompt: str, shown: str) -> str:
        shared = _num_shared(prompt, shown)
        signs = str.maketrans({ASKED: "QUESTION", ANSWERED: "ANSWER"})
        asked, answered = (t[shared : shared + 40].translate(signs) for t in (prompt, shown))
        return (
            f"{self._renderer.what} asks for an answer with {asked!r} where it shows the answer as"
            f" {answered!r}, so what is generated could not be what is learned. Give the answer"
            " the form that the template asks for (its reasoning, for one); or, to keep the rows,"
            " let add_generation_prompt write in the template just what it writes before an"
            ' answer; or use another, as "chatml".'
        )

    def _require_shown(self, chat: Chat, index: int, answer: Answer) -> None:
        """Refuse a template that leaves out what a row says, or says it otherwise."""
        for number, message in enumerate(chat.messages[:index]):
            if message["role"] == "assistant" or _shows_all(answer.prompt, message["content"]):
                continue
            is_cut = _cuts(answer.prompt, message["content"])
            if is_cut or not self._matters(chat.upto(index), number, answer):
                raise TemplateError(self._left_out(f"what message {number + 1} says"))
        for tool in chat.tools:
            name = (tool.get("function") or tool).get("name", "")
            if name not in answer.prompt:
                raise TemplateError(self._left_out(f"the tool {name!r}"))
        message = chat.messages[index]
        learned = answer.learned
        if not _shows(learned, message["content"]):
            raise TemplateError(self._left_out(f"what message {index + 1} says"))
        if not _shows(learned, reasoning_of(message)):
            raise TemplateError(self._left_out(f"the reasoning of message {index + 1}"))
        for call in message.get("tool_calls") or ():
            if call["function"]["name"] not in learned:
                raise TemplateError(self._left_out(f"the tool calls of message {index + 1}"))

    def _matters(self, chat: Chat, index: int, answer: Answer) -> bool:
        """Tell whether a message that is not shown as it is changes the prompt, as a switch may."""
        other = {**chat.messages[index], "content": ASKED_MORE}
        changed = Chat([*chat.messages[:index], other, *chat.messages[index + 1 :]], chat.tools)
        try:
            return self._renderer.text(changed, is_prompt=True) != answer.prompt
        except TemplateError:
            return True

    def _left_out(self, what: str) -> str:
        return (
            f"{self._renderer.what} leaves out {what}, or says it otherwise; take it out of the"
            " row, or use a template that shows it."
        )


def _shows(rendered: str, said: Any) -> bool:
    """Tell whether a text shows the last line of what was said."""
    return all(_shows_line(rendered, line) for line in _lines(said)[-1:])


def _shows_all(rendered: str, said: Any) -> bool:
    """Tell whether a text shows every line of what was said."""
    return all(_shows_line(rendered, line) for line in _lines(said))


def _cuts(rendered: str, said: Any) -> bool:
    """Tell whether a text shows a part of what was said; switches such as /no_think may go."""
    lines = _lines(_SWITCH.sub("", said) if isinstance(said, str) else "")
    shown = [_shows_line(rendered, line) for line in lines]
    starts = [_shows_line(rendered, line[:_CUT]) for line in lines if len(line) > _CUT]
    return not all(shown) and (any(shown) or any(starts))


def _shows_line(rendered: str, line: str) -> bool:
    """Tell whether a text holds a line, as it is or in JSON."""
    if line in rendered:
        return True
    return any(json.dumps(line, ensure_ascii=safe)[1:-1] in rendered for safe in (False, True))


def _lines(said: Any) -> list[str]:
    stripped = (line.strip() for line in said.split("\n")) if isinstance(said, str) else ()
    return [line for line in stripped if line]


def _num_shared(one: str, other: str) -> int:
    """Count the characters that two texts share at their start.

    Example:
        >>> _num_shared("abc", "abd")
        2
    """
    shortest = min(len(one), len(other))
    if one[:shortest] == other[:shortest]:
        return shortest
    return next(at for at in range(shortest) if one[at] != other[at])
