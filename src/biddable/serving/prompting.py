"""Say how one model is asked: messages become its prompt's ids, and its ids an answer's text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from biddable.data.conversation import Message
from biddable.data.encoding import encode_prompt
from biddable.data.segment_ids import stop_ids
from biddable.data.templates import ChatTemplate, get_template
from biddable.models.loading import LoadedModel

_HALF_CHARACTER = "�"  # what a decoder puts where bytes are still missing


class Prompting:
    """Put messages to a model in the form it was taught, and read what it writes.

    Attributes:
        template: how turns are written; None gives the model the last message as bare text, with
            nothing but its start token before it.
        stop_ids: ids that end an answer.
        longest: ids that the model can read at once, those of its answer counted; None: no limit.
    """

    def __init__(self, loaded: LoadedModel, template: str | None) -> None:
        """Find the template.

        Args:
            loaded: the model.
            template: a name or file, as ``get_template`` takes it; None for bare text.

        Raises:
            TemplateError: it is unknown, or the tokenizer lacks what it needs.
        """
        self._tokenizer: PreTrainedTokenizerBase = loaded.tokenizer
        self.template: ChatTemplate | None = None
        self.stop_ids = loaded.end_ids()
        if template is not None:
            self.template = get_template(
                template, loaded.tokenizer, control_text=loaded.control_text
            )
            self.stop_ids |= set(stop_ids(self.template, loaded.tokenizer))
        config = loaded.model.config.get_text_config(decoder=True)
        longest = getattr(config, "max_position_embeddings", None)
        self.longest: int | None = None if longest is None else int(longest)

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Make the prompt's ids, those that training put before the answer.

        Raises:
            TemplateError: the template cannot show one of the messages.
        """
        if self.template is not None:
            return encode_prompt(messages, self.template, self._tokenizer)
        ids: list[int] = self._tokenizer(
            messages[-1].text, add_special_tokens=False, split_special_tokens=True, verbose=False
        )["input_ids"]
        start = self._tokenizer.bos_token_id
        return ids if start is None else [start, *ids]

    def read(self, ids: Sequence[int]) -> str:
        """Read an answer from its ids, the stop left out."""
        return self._as_answer(self._decode(ids))

    def read_unfinished(self, ids: Sequence[int]) -> str:
        """Read the part of an answer that stands, whatever ids may follow.

        Held back are half a character, and what may turn out to be a mark of the template.
        """
        text = self._decode(ids).rstrip(_HALF_CHARACTER)
        form = self.template
        if form is None:
            return text
        if len(text) < len(form.answer_prefix) and form.answer_prefix.startswith(text):
            return ""
        ends = [form.answer_suffix] if form.answer_suffix else []
        held = max((_overlap(text, end, most=len(end)) for end in ends), default=0)
        for marker in form.markers:  # which, spelled by content, has backslashes before it
            length = _overlap(text, marker, most=len(marker) - 1)
            before = text[: len(text) - length]
            slashes = len(before) - len(before.rstrip("\\"))
            held = max(held, length + slashes if slashes else 0)
        return self._as_answer(text[: len(text) - held])

    def _as_answer(self, text: str) -> str:
        return text if self.template is None else self.template.read_answer(text)

    def _decode(self, ids: Sequence[int]) -> str:
        return str(
            self._tokenizer.decode(
                list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )


def _overlap(text: str, mark: str, *, most: int) -> int:
    """Count the characters at the end of a text that a mark starts with.

    Example:
        >>> _overlap("all of [/I", "[/INST]", most=6), _overlap("all", "[/INST]", most=6)
        (3, 0)
    """
    return next((n for n in range(most, 0, -1) if text.endswith(mark[:n])), 0)


def printable(text: str) -> str:
    r"""Take out what would steer a terminal rather than be read in it.

    Example:
        >>> printable("a\x1b[31mb\tc\n")
        'a[31mb\tc\n'
    """
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", text)
