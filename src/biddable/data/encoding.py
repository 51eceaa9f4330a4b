"""Turn conversations into ids and, in the same breath, the mask of what is learned.

Every segment of a rendered conversation is encoded by itself, so a border between prompt and answer
is a border between tokens, and training sees exactly the ids that generation is given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, cast

from biddable.data.conversation import Conversation, Message
from biddable.data.pieces import encode_texts
from biddable.data.segments import ChatTemplate, Segment
from biddable.errors import DataError, TemplateError, join_problems

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORE_INDEX = -100

Learn = Literal["answers", "all"]
Overflow = Literal["error", "drop"]


@dataclass(frozen=True, slots=True)
class Example:
    """Hold one row, encoded.

    Attributes:
        input_ids: length T.
        loss_mask: length T, True where the token itself is learned.
        source: ``file:line`` of the row; empty if unknown.
    """

    input_ids: list[int]
    loss_mask: list[bool]
    source: str = ""

    def __post_init__(self) -> None:
        """Hold the two lists to one length."""
        _require_same_length(self.input_ids, self.loss_mask)


@dataclass(frozen=True, slots=True)
class EncodingReport:
    """Count what became of the rows of a file.

    Attributes:
        num_rows: rows given.
        num_kept: rows that became examples.
        dropped: the others, each as ``file:line: reason``.
        num_tokens: ids in all examples.
        num_loss_tokens: those that are learned.
        max_len: ids in the longest example.
    """

    num_rows: int
    num_kept: int
    dropped: list[str]
    num_tokens: int
    num_loss_tokens: int
    max_len: int

    def __add__(self, other: EncodingReport) -> EncodingReport:
        """Join the reports of two parts of the rows.

        Example:
            >>> parts = [EncodingReport(3, 2, ["a:1: too long"], 12, 3, 7)] * 2
            >>> parts[0] + parts[1]  # doctest: +NORMALIZE_WHITESPACE
            EncodingReport(num_rows=6, num_kept=4, dropped=['a:1: too long', 'a:1: too long'],
                num_tokens=24, num_loss_tokens=6, max_len=7)
        """
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        joined = {name: a + b for name, (a, b) in pairs.items() if name != "max_len"}
        return EncodingReport(**joined, max_len=max(self.max_len, other.max_len))

    def require_kept(self) -> None:
        """Refuse to go on without a row.

        Raises:
            DataError: no row was kept.
        """
        if not self.num_kept:
            fix = "Raise max_seq_len, or learn at least one answer."
            raise DataError(f"no row is left to learn from:\n{join_problems(self.dropped)}\n{fix}")

    def summary(self) -> str:
        """Say it in one line.

        Example:
            >>> EncodingReport(3, 2, ["a:1: too long"], 1200, 300, 700).summary()
            '2 of 3 rows kept (1 dropped); 1,200 tokens, 300 learned (25.0 %); longest row 700'
        """
        dropped = f" ({len(self.dropped):,} dropped)" if self.dropped else ""
        share = self.num_loss_tokens / max(self.num_tokens, 1)
        return (
            f"{self.num_kept:,} of {self.num_rows:,} rows kept{dropped};"
            f" {self.num_tokens:,} tokens, {self.num_loss_tokens:,} learned"
            f" ({100 * share:.1f} %); longest row {self.max_len:,}"
        )


def labels_from_mask(input_ids: Sequence[int], loss_mask: Sequence[bool]) -> list[int]:
    """Keep the ids that are learned and hide the rest from the loss.

    The result is aligned with the input (not shifted); the loss shifts it once.

    Args:
        input_ids: ids of one example, length T.
        loss_mask: True where the token itself is to be learned, length T.

    Returns:
        Labels of length T, ``IGNORE_INDEX`` where nothing is learned.

    Raises:
        ValueError: the two lengths differ.

    Example:
        >>> # <user> hi <assistant> yo <end>: the reply and its end are learned
        >>> labels_from_mask([1, 7, 2, 9, 3], [False, False, False, True, True])
        [-100, -100, -100, 9, 3]
    """
    _require_same_length(input_ids, loss_mask)
    pairs = zip(input_ids, loss_mask, strict=True)
    return [token_id if learned else IGNORE_INDEX for token_id, learned in pairs]


def encode(
    conversation: Conversation,
    template: ChatTemplate,
    tokenizer: PreTrainedTokenizerBase,
    *,
    learn: Learn = "answers",
) -> Example:
    """Encode one conversation.

    Args:
        conversation: ends with an answer.
        template: renders it.
        tokenizer: the one the template was made for.
        learn: the answers with their stops, or all tokens but the first, which nothing predicts.

    Returns:
        Ids and mask, each of length T.

    Raises:
        TemplateError: the template cannot show the conversation.
    """
    segments = template.render(conversation.messages)
    ids = _SegmentIds([segments], tokenizer)
    return _example(segments, ids, learn=learn, source=conversation.source)


def encode_prompt(
    messages: Sequence[Message], template: ChatTemplate, tokenizer: PreTrainedTokenizerBase
) -> list[int]:
    """Encode what a model is given to answer.

    Args:
        messages: up to a question; a last answer, if there, is left out.
        template: renders it.
        tokenizer: the one the template was made for.

    Returns:
        Exactly the ids that ``encode`` puts before the first learned id of the last answer.

    Raises:
        TemplateError: the template cannot show the messages.
    """
    segments = template.render_prompt(messages)
    ids = _SegmentIds([segments], tokenizer)
    return [token_id for segment in segments for token_id in ids[segment]]


def encode_all(
    conversations: Sequence[Conversation],
    template: ChatTemplate,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_seq_len: int | None,
    overflow: Overflow = "drop",
    learn: Learn = "answers",
) -> tuple[list[Example], EncodingReport]:
    """Encode all rows of a file; no answer is ever cut.

    Args:
        conversations: each ends with an answer.
        template: renders them.
        tokenizer: the one the template was made for.
        max_seq_len: ids a row may have; None for no limit.
        overflow: whether a longer row is an error or is dropped and reported.
        learn: see ``encode``.

    Returns:
        The examples in order, and what became of the rows.

    Raises:
        TemplateError: the template cannot show some rows; all are named.
        DataError: there are no rows, some are too long under ``overflow="error"``, or none is left.
    """
    if not conversations:
        raise DataError("there are no rows to encode; give at least one.")
    examples, report = encode_chunk(
        conversations,
        template,
        tokenizer,
        max_seq_len=max_seq_len,
        overflow=overflow,
        learn=learn,
    )
    report.require_kept()
    return examples, report


def encode_chunk(
    conversations: Sequence[Conversation],
    template: ChatTemplate,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_seq_len: int | None,
    overflow: Overflow = "drop",
    learn: Learn = "answers",
) -> tuple[list[Example], EncodingReport]:
    """Encode some rows of a file as ``encode_all`` does; there may be no example in the end."""
    examples, dropped, num_long = [], [], 0
    for example in _encode_rows(conversations, template, tokenizer, learn=learn):
        num_ids = len(example.input_ids)
        if max_seq_len is not None and num_ids > max_seq_len:
            num_long += 1
            dropped.append(f"{example.source}: {num_ids} tokens; the limit is {max_seq_len}.")
        elif not any(example.loss_mask):
            dropped.append(f"{example.source}: nothing in it is learned.")
        else:
            examples.append(example)
    if num_long and overflow == "error":
        fix = 'Shorten the rows, raise max_seq_len, or let overflow be "drop".'
        raise DataError(f"{join_problems(dropped)}\n{fix}")
    return examples, EncodingReport(
        num_rows=len(conversations),
        num_kept=len(examples),
        dropped=dropped,
        num_tokens=sum(len(example.input_ids) for example in examples),
        num_loss_tokens=sum(sum(example.loss_mask) for example in examples),
        max_len=max((len(example.input_ids) for example in examples), default=0),
    )


def _encode_rows(
    conversations: Sequence[Conversation],
    template: ChatTemplate,
    tokenizer: PreTrainedTokenizerBase,
    *,
    learn: Learn,
) -> list[Example]:
    sources = [c.source or f"row {n}" for n, c in enumerate(conversations, start=1)]
    rendered, problems = [], []
    for conversation, source in zip(conversations, sources, strict=True):
        try:
            rendered.append(template.render(conversation.messages))
        except TemplateError as error:
            problems.append(f"{source}: {error}")
    if problems:
        raise TemplateError(join_problems(problems))
    ids = _SegmentIds(rendered, tokenizer)
    return [
        _example(segments, ids, learn=learn, source=source)
        for segments, source in zip(rendered, sources, strict=True)
    ]


def _example(
    segments: Sequence[Segment], ids: _SegmentIds, *, learn: Learn, source: str
) -> Example:
    input_ids: list[int] = []
    loss_mask: list[bool] = []
    for segment in segments:
        new = ids[segment]
        input_ids += new
        loss_mask += [segment.learned or learn == "all"] * len(new)
    if learn == "all" and loss_mask:
        loss_mask[0] = False
    return Example(input_ids, loss_mask, source)


class _SegmentIds:
    """Encode the segments of many rows in one call of the tokenizer, which uses all cores."""

    def __init__(
        self, rendered: Iterable[Sequence[Segment]], tokenizer: PreTrainedTokenizerBase
    ) -> None:
        segments = {segment for row in rendered for segment in row}
        controls = sorted({segment.text for segment in segments if segment.special})
        plain = sorted({segment.text for segment in segments if not segment.special})
        control_ids = cast("list[int]", tokenizer.convert_tokens_to_ids(controls))
        self._controls = dict(zip(controls, control_ids, strict=True))
        self._plain = dict(zip(plain, self._encode(plain, tokenizer), strict=True))

    def __getitem__(self, segment: Segment) -> list[int]:
        return [self._controls[segment.text]] if segment.special else self._plain[segment.text]

    def _encode(self, texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
        rows = encode_texts(texts, tokenizer)
        # A control token that the tokenizer was not told is special is still found in plain text.
        forbidden = set(self._controls.values())
        for text, ids in zip(texts, rows, strict=True):
            if not forbidden.isdisjoint(ids):
                parts = self._cut_controls(text)
                if text in parts:
                    raise TemplateError(
                        f"a message holds a control token that cannot be cut ({text[:20]!r});"
                        " give the tokenizer an eos_token that no text holds."
                    )
                ids[:] = [token_id for part in self._encode(parts, tokenizer) for token_id in part]
        return rows

    def _cut_controls(self, text: str) -> list[str]:
        """Cut each spelled control token in two, so that no part of it is one."""
        halves = ((text[: len(text) // 2], text[len(text) // 2 :]) for text in self._controls)
        cuts = (f"(?<={re.escape(left)})(?={re.escape(right)})" for left, right in halves)
        return re.split("|".join(cuts), text)


def _require_same_length(input_ids: Sequence[int], loss_mask: Sequence[bool]) -> None:
    if len(input_ids) != len(loss_mask):
        raise ValueError(
            f"{len(input_ids)} input_ids and {len(loss_mask)} loss_mask values; they go in pairs."
        )
