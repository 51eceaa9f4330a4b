"""Turn conversations into ids and, in the same breath, the mask of what is learned.

Every segment of a rendered conversation is encoded by itself, so a border between prompt and answer
is a border between tokens, and training sees exactly the ids that generation is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

from biddable.data.conversation import Conversation, Message
from biddable.data.segment_ids import SegmentIds
from biddable.data.segments import ChatTemplate, Learn, Segment, Tools
from biddable.errors import DataError, TemplateError, join_problems

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORE_INDEX = -100

_TOO_LONG = "tokens; the limit is"

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
        num_examples: examples made; more than rows where a row became one for each answer.
        num_rows_expanded: rows of which that is true.
        num_rows_with_control_text: rows that spell a control token or a mark of the template,
            which is encoded as plain text.
    """

    num_rows: int
    num_kept: int
    dropped: list[str]
    num_tokens: int
    num_loss_tokens: int
    max_len: int
    num_examples: int = 0
    num_rows_expanded: int = 0
    num_rows_with_control_text: int = 0

    def __add__(self, other: EncodingReport) -> EncodingReport:
        """Join the reports of two parts of the rows.

        Example:
            >>> part = EncodingReport(3, 2, ["a:1: too long"], 12, 3, 7)
            >>> (part + part).summary()
            '4 of 6 rows kept (2 dropped); 24 tokens, 6 learned (25.0 %); longest row 7'
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
        text = (
            f"{self.num_kept:,} of {self.num_rows:,} rows kept{dropped};"
            f" {self.num_tokens:,} tokens, {self.num_loss_tokens:,} learned"
            f" ({100 * share:.1f} %); longest row {self.max_len:,}"
        )
        if self.num_rows_expanded:
            text += (
                f"; {self.num_rows_expanded:,} rows became one for each answer"
                f" ({self.num_examples:,} examples in all)"
            )
        if self.num_rows_with_control_text:
            text += f"; {self.num_rows_with_control_text:,} rows spell control text, kept as text"
        return text


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
        conversation: ends with an answer, or is a plain text.
        template: renders it.
        tokenizer: the one the template was made for.
        learn: the answers with their stops, the last of them only, or all tokens; never the first
            token, which nothing predicts. A plain text is learned as a whole.

    Returns:
        Ids and mask, each of length T.

    Raises:
        TemplateError: the template cannot show the conversation, or not in one row, or what is
            learned is not what the row says.
    """
    rows = template.render_rows(conversation, learn=learn)
    if len(rows) > 1:
        raise TemplateError(
            "the template shows earlier answers otherwise than when they are generated, so each"
            " needs a row of its own; encode_all makes them."
        )
    ids = SegmentIds(rows, tokenizer, control_tokens=template.control_tokens)
    if problem := ids.problem(rows[0]):
        raise TemplateError(problem)
    return _example(rows[0], ids, source=conversation.source)


def encode_prompt(
    messages: Sequence[Message],
    template: ChatTemplate,
    tokenizer: PreTrainedTokenizerBase,
    *,
    tools: Tools = (),
) -> list[int]:
    """Encode what a model is given to answer.

    Args:
        messages: up to a question; a last answer, if there, is left out.
        template: renders it.
        tokenizer: the one the template was made for.
        tools: the functions that may be called.

    Returns:
        Exactly the ids that ``encode`` puts before the first learned id of the last answer.

    Raises:
        TemplateError: the template cannot show the messages.
    """
    segments = template.render_prompt(messages, tools=tools)
    ids = SegmentIds([segments], tokenizer, control_tokens=template.control_tokens)
    return [token_id for part in ids.of(segments) for token_id in part]


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
        conversations: each ends with an answer, or is a plain text.
        template: renders them.
        tokenizer: the one the template was made for.
        max_seq_len: ids a row may have; None for no limit.
        overflow: whether a longer row is an error or is dropped and reported.
        learn: see ``encode``.

    Returns:
        The examples in order, and what became of the rows. A row whose template shows earlier
        answers otherwise than when they are generated becomes an example for each answer.

    Raises:
        TemplateError: the template cannot show some rows, or what would be learned is not what they
            say; all are named.
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
    examples: list[Example] = []
    dropped: list[str] = []
    num_kept = num_expanded = 0
    for made in _encode_rows(conversations, template, tokenizer, learn=learn):
        refusals = _refusals(made, max_seq_len)
        kept = [e for e, refusal in zip(made, refusals, strict=True) if not refusal]
        examples += kept
        dropped += filter(None, refusals)
        num_kept += bool(kept)
        num_expanded += len(made) > 1
    if overflow == "error" and any(_TOO_LONG in refusal for refusal in dropped):
        fix = 'Shorten the rows, raise max_seq_len, or let overflow be "drop".'
        raise DataError(f"{join_problems(dropped)}\n{fix}")
    return examples, EncodingReport(
        num_rows=len(conversations),
        num_kept=num_kept,
        dropped=dropped,
        num_tokens=sum(len(example.input_ids) for example in examples),
        num_loss_tokens=sum(sum(example.loss_mask) for example in examples),
        max_len=max((len(example.input_ids) for example in examples), default=0),
        num_examples=len(examples),
        num_rows_expanded=num_expanded,
        num_rows_with_control_text=sum(map(template.spells_control, conversations)),
    )


def encode_shown(
    conversations: Sequence[Conversation],
    template: ChatTemplate,
    tokenizer: PreTrainedTokenizerBase,
) -> tuple[list[Example], EncodingReport, dict[int, str]]:
    """Encode the rows that the template can show, of any length, and say why not the others.

    Returns:
        examples: as ``encode_all`` gives them.
        report: of these rows.
        refused: the reason by the 0-based number of each other row.

    Raises:
        TemplateError: the fault is no single row's.
    """
    refused: dict[int, str] = {}
    try:
        found = encode_chunk(conversations, template, tokenizer, max_seq_len=None)
    except TemplateError as error:
        if not error.rows:
            raise
        refused = dict(sorted(error.rows.items()))
        rest = [row for number, row in enumerate(conversations) if number not in refused]
        found = encode_chunk(rest, template, tokenizer, max_seq_len=None)
    return (*found, refused)


def _refusals(made: Sequence[Example], max_seq_len: int | None) -> list[str]:
    """Say of each example of a row why it is dropped; empty if it is kept."""
    refusals = []
    for number, example in enumerate(made, start=1):
        place = example.source + (f" (answer {number})" if len(made) > 1 else "")
        num_ids = len(example.input_ids)
        if max_seq_len is not None and num_ids > max_seq_len:
            refusals.append(f"{place}: {num_ids} {_TOO_LONG} {max_seq_len}.")
        else:
            nothing = "" if any(example.loss_mask) else f"{place}: nothing in it is learned."
            refusals.append(nothing)
    return refusals


def _encode_rows(
    conversations: Sequence[Conversation],
    template: ChatTemplate,
    tokenizer: PreTrainedTokenizerBase,
    *,
    learn: Learn,
) -> Iterator[list[Example]]:
    """Give the examples of each row, once all rows are rendered and proven."""
    sources = [c.source or f"row {n}" for n, c in enumerate(conversations, start=1)]
    rendered: list[list[list[Segment]]] = []
    problems: dict[int, str] = {}
    for number, conversation in enumerate(conversations):
        rows: list[list[Segment]] = []
        try:
            rows = template.render_rows(conversation, learn=learn)
        except TemplateError as error:
            problems[number] = str(error)
        rendered.append(rows)
    every_row = (row for rows in rendered for row in rows)
    ids = SegmentIds(every_row, tokenizer, control_tokens=template.control_tokens)
    for number, rows in enumerate(rendered):
        if problem := next(filter(None, map(ids.problem, rows)), ""):
            problems[number] = problem
    if problems:
        lines = [f"{sources[number]}: {text}" for number, text in sorted(problems.items())]
        refusal = TemplateError(join_problems(lines))
        refusal.rows = problems
        raise refusal
    for source, rows in zip(sources, rendered, strict=True):
        yield [_example(row, ids, source=source) for row in rows]


def _example(segments: Sequence[Segment], ids: SegmentIds, *, source: str) -> Example:
    input_ids: list[int] = []
    loss_mask: list[bool] = []
    for segment, new in zip(segments, ids.of(segments), strict=True):
        input_ids += new
        loss_mask += [segment.learned] * len(new)
    if loss_mask:
        loss_mask[0] = False  # nothing predicts it
    return Example(input_ids, loss_mask, source)


def _require_same_length(input_ids: Sequence[int], loss_mask: Sequence[bool]) -> None:
    if len(input_ids) != len(loss_mask):
        raise ValueError(
            f"{len(input_ids)} input_ids and {len(loss_mask)} loss_mask values; they go in pairs."
        )
