"""Render with the tokenizer's own Jinja template, and find in its text what is learned.

Jinja gives text only, so each content is first replaced by a mark that no text holds. The rendered
skeleton then shows where contents stand and where answers begin (the text up to them must be
exactly the generation prompt) and end (at the stop token). Whatever does not hold is refused: a
mask is never guessed. transformers renders in a sandbox.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import jinja2

from biddable.data.conversation import Message
from biddable.data.segments import (
    ChatTemplate,
    Segment,
    join_plain,
    require_answer,
    without_answer,
)
from biddable.errors import TemplateError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARK = re.compile("\ue000([0-9]+)\ue001")


class TokenizerTemplate(ChatTemplate):
    """Render with ``tokenizer.apply_chat_template``."""

    name = "tokenizer"

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Find the stop token by rendering one short exchange.

        Raises:
            TemplateError: the tokenizer has no template, or its template ends no answer with a
                control token.
        """
        if not tokenizer.chat_template:
            raise TemplateError(
                'the tokenizer has no chat template of its own; use "inst", "alpaca" or "chatml".'
            )
        self._tokenizer = tokenizer
        tokens = {str(t) for t in tokenizer.added_tokens_decoder.values() if t.special}
        tokens |= set(tokenizer.all_special_tokens)
        longest_first = sorted(map(re.escape, tokens), key=len, reverse=True)
        self._specials = re.compile("|".join(longest_first) or "(?!)")
        probe = (Message("user", "U"), Message("assistant", "A"))
        skeleton, prompt = self._skeleton(probe), self._skeleton(probe[:1], is_prompt=True)
        answer = _MARK.search(skeleton, len(prompt))
        stop = self._specials.search(skeleton, answer.end()) if answer else None
        if not answer or not stop:
            raise TemplateError(
                "the tokenizer's chat template ends an answer with no control token, so no model"
                ' could learn to stop; use "inst", "alpaca" or "chatml".'
            )
        self.stop_text = stop[0]
        self.answer_prefix = skeleton[len(prompt) : answer.start()]
        self.answer_suffix = skeleton[answer.end() : stop.start()]

    def render(self, messages: Sequence[Message]) -> list[Segment]:
        """Render a conversation that ends with an answer; see ``ChatTemplate.render``."""
        require_answer(messages)
        skeleton = self._skeleton(messages)
        spans = self._answer_spans(messages, skeleton)
        contents = self._contents(messages, skeleton, is_prompt=False)
        return self._cut(skeleton[: spans[-1][1]], spans, messages, contents)

    def render_prompt(self, messages: Sequence[Message]) -> list[Segment]:
        """Render up to where the answer starts; see ``ChatTemplate.render_prompt``."""
        messages = without_answer(messages)
        skeleton = self._skeleton(messages, is_prompt=True)
        spans = self._answer_spans(messages, skeleton)
        contents = self._contents(messages, skeleton, is_prompt=True)
        return self._cut(skeleton, spans, messages, contents)

    @property
    def definition(self) -> str:
        """Give the Jinja source."""
        return str(self._tokenizer.get_chat_template())

    def _skeleton(self, messages: Sequence[Message], *, is_prompt: bool = False) -> str:
        return self._apply(
            [(m.role, f"\ue000{index}\ue001") for index, m in enumerate(messages)], is_prompt
        )

    def _apply(self, messages: Sequence[tuple[str, str]], is_prompt: bool) -> str:
        try:
            rendered = self._tokenizer.apply_chat_template(
                [{"role": role, "content": content} for role, content in messages],
                tokenize=False,
                add_generation_prompt=is_prompt,
            )
        except (jinja2.TemplateError, ValueError) as error:  # ValueError: it has no message
            raise TemplateError(
                f"the tokenizer's chat template refuses the conversation: {error}"
            ) from error
        return str(rendered)

    def _answer_spans(self, messages: Sequence[Message], skeleton: str) -> list[tuple[int, int]]:
        """Find where each answer starts (after its generation prompt) and ends (with its stop)."""
        spans = []
        for index, message in enumerate(messages):
            if message.role != "assistant":
                continue
            start = len(prompt := self._skeleton(messages[:index], is_prompt=True))
            end = skeleton.find(self.stop_text, skeleton.find(f"\ue000{index}\ue001", start))
            end += len(self.stop_text)
            alone = self._skeleton(messages[: index + 1])
            if not skeleton.startswith(prompt) or alone[:end] != skeleton[:end] or end <= start:
                raise TemplateError(
                    f"the tokenizer's chat template shows message {index + 1} otherwise once the"
                    " conversation goes on than when it is generated, so it cannot be learned in"
                    ' one row; split the row at its answers, or use "chatml".'
                )
            spans.append((start, end))
        return spans

    def _contents(
        self, messages: Sequence[Message], skeleton: str, *, is_prompt: bool
    ) -> dict[int, str]:
        """Say how each content appears in the text: as it is, or stripped by the template."""
        text = self._apply([(m.role, m.text) for m in messages], is_prompt)
        pieces = _MARK.split(skeleton)  # literal, index, literal, index, ..., literal
        if [int(index) for index in pieces[1::2]] != list(range(len(messages))):
            raise TemplateError(
                "the tokenizer's chat template leaves out, repeats or moves a message; use"
                ' "chatml".'
            )
        contents: dict[int, str] = {}
        at = len(pieces[0]) if text.startswith(pieces[0]) else -1
        for index, literal in enumerate(pieces[2::2]):
            content = messages[index].text
            forms = (content, content.strip(), content.rstrip(), content.lstrip())
            fits = (f for f in forms if at >= 0 and text.startswith(f + literal, at))
            contents[index] = next(fits, content)
            at += len(contents[index] + literal)
        if "".join(contents[int(p)] if i % 2 else p for i, p in enumerate(pieces)) != text:
            raise TemplateError(
                "the tokenizer's chat template rewrites the content of a message, so what is"
                ' learned cannot be told; use "chatml".'
            )
        return contents

    def _cut(
        self,
        skeleton: str,
        spans: Sequence[tuple[int, int]],
        messages: Sequence[Message],
        contents: dict[int, str],
    ) -> list[Segment]:
        learns = [message.learn for message in messages if message.role == "assistant"]
        borders = [0, *(at for span in spans for at in span), len(skeleton)]
        segments: list[Segment] = []
        for number, (start, end) in enumerate(pairwise(borders)):
            learned = number % 2 == 1 and learns[number // 2]
            piece: list[Segment] = []
            for i, part in enumerate(_MARK.split(skeleton[start:end])):
                if i % 2:
                    piece.append(Segment(contents[int(part)], learned))
                else:
                    piece += self._split_specials(part, learned)
            segments += join_plain(piece)
        return segments

    def _split_specials(self, text: str, learned: bool) -> list[Segment]:
        segments, at = [], 0
        for match in self._specials.finditer(text):
            segments.append(Segment(text[at : match.start()], learned))
            segments.append(Segment(match[0], learned, special=True))
            at = match.end()
        segments.append(Segment(text[at:], learned))
        return [segment for segment in segments if segment.text]
