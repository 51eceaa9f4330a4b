"""Turn conversations into ids and, in the same breath, the mask of what is learned.

Every segment of a rendered conversation is encoded by itself, so a border between prompt and answer
is a border between tokens, and training sees exactly the ids that generation is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from biddable.counting import counted
from biddable.data.conversation import Conversation, Message
from biddable.data.encoded import EncodedRows, Example, require_same_length
from biddable.data.segment_ids import SegmentIds
from biddable.data.segments import ChatTemplate, Learn, Segment, Tools
from biddable.errors import DataError, TemplateError, join_problems, once_each

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "IGNORE_INDEX",
    "EncodingReport",
    "Example",
    "Overflow",
    "encode",
    "encode_all",
    "encode_chunk",
    "encode_prompt",
    "labels_from_mask",
]

IGNORE_INDEX = -100

_TOO_LONG = "tokens; the limit is"

Overflow = Literal["error", "drop"]


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
            fix = (
                "Shorten the rows, raise max_seq_len as far as the model can read, or learn at"
                " least one answer."
            )
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
            f"{self.num_kept:,} of {counted(self.num_rows, 'row')} kept{dropped};"
            f" {counted(self.num_tokens, 'token')}, {self.num_loss_tokens:,} learned"
            f" ({100 * share:.1f} %); longest row {self.max_len:,}"
        )
        if self.num_rows_expanded:
            text += (
                f"; {counted(self.num_rows_expanded, 'row')} became one for each answer"
                f" ({counted(self.num_examples, 'example')} in all)"
            )
        if self.num_rows_with_control_text:
            rows = counted(self.num_rows_with_control_text, "row")
            spell = "spells" if self.num_rows_with_control_text == 1 else "spell"
            text += f"; {rows} {spell} control text, kept as text"
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
    require_same_length(input_ids, loss_mask)
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
    rendered = template.render_rows(conversation, learn=learn)
    if len(rendered) > 1:
        raise TemplateError(
            "the template shows earlier answers otherwise than when they are generated, so each"
            " needs a row of its own; encode_all makes them."
        )
    ids = SegmentIds(rendered, tokenizer, control_tokens=template.control_tokens)
    if problem := ids.problems().get(0):
        raise TemplateError(problem)
    return EncodedRows.of_lists(*ids.rows(), [conversation.source])[0]


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
    return ids.rows()[0][0]


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
    rows, report = encode_chunk(
        conversations,
        template,
        tokenizer,
        max_seq_len=max_seq_len,
        overflow=overflow,
        learn=learn,
    )
    report.require_kept()
    return list(rows), report


def encode_chunk(
    conversations: Sequence[Conversation],
    template: ChatTemplate,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_seq_len: int | None,
    overflow: Overflow = "drop",
    learn: Learn = "answers",
) -> tuple[EncodedRows, EncodingReport]:
    """Encode some rows of a file as ``encode_all`` does; there may be no example in the end."""
    made, owners = _encode_rows(conversations, template, tokenizer, learn=learn)
    is_long = made.lengths > (np.inf if max_seq_len is None else max_seq_len)
    is_kept = ~is_long & (made.loss_tokens > 0)
    dropped = []
    for number in np.flatnonzero(~is_kept).tolist():
        row = owners == owners[number]
        place = made.sources[number]
        if row.sum() > 1:
            place += f" (answer {number - row.argmax() + 1})"
        too_long = f"{made.lengths[number]} {_TOO_LONG} {max_seq_len}."
        dropped.append(f"{place}: {too_long if is_long[number] else 'nothing in it is learned.'}")
    if overflow == "error" and is_long.any():
        fix = 'Shorten the rows, raise max_seq_len, or let overflow be "drop".'
        raise DataError(f"{join_problems(dropped)}\n{fix}")
    rows = made if is_kept.all() else made.take(np.flatnonzero(is_kept))
    return rows, EncodingReport(
        num_rows=len(conversations),
        num_kept=len(np.unique(owners[is_kept])),
        dropped=dropped,
        num_tokens=len(rows.input_ids),
        num_loss_tokens=int(rows.loss_tokens.sum()),
        max_len=int(rows.lengths.max(initial=0)),
        num_examples=len(rows),
        num_rows_expanded=int((np.bincount(owners) > 1).sum()),
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
        rows, report = encode_chunk(conversations, template, tokenizer, max_seq_len=None)
    except TemplateError as error:
        if not error.rows:
            raise
        refused = dict(sorted(error.rows.items()))
        rest = [row for number, row in enumerate(conversations) if number not in refused]
        rows, report = encode_chunk(rest, template, tokenizer, max_seq_len=None)
    return list(rows), report, refused


def _encode_rows(
    conversations: Sequence[Conversation],
    template: ChatTemplate,
    tokenizer: PreTrainedTokenizerBase,
    *,
    learn: Learn,
) -> tuple[EncodedRows, NDArray[np.int64]]:
    """Give the examples of all rows, and of which row each is, once all are proven."""
    sources = [c.source or f"row {n}" for n, c in enumerate(conversations, start=1)]
    rendered: list[list[Segment]] = []
    owners: list[int] = []
    problems: dict[int, str] = {}
    for number, conversation in enumerate(conversations):
        try:
            rows = template.render_rows(conversation, learn=learn)
        except TemplateError as error:
            problems[number] = str(error)
        else:
            rendered += rows
            owners += [number] * len(rows)
    ids = SegmentIds(rendered, tokenizer, control_tokens=template.control_tokens)
    for row, problem in ids.problems().items():
        problems.setdefault(owners[row], problem)
    if problems:
        lines = [f"{sources[number]}: {text}" for number, text in sorted(problems.items())]
        refusal = TemplateError(join_problems(once_each(lines)))
        refusal.rows = problems
        raise refusal
    examples = EncodedRows.of_lists(*ids.rows(), [sources[number] for number in owners])
    return examples, np.array(owners, np.int64)
