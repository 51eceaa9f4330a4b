"""Measure rows: how long prompts and answers are, what a limit costs, which rows stand out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from statistics import quantiles
from typing import TYPE_CHECKING, Any

from biddable.data.conversation import Conversation
from biddable.data.encoding import Example, encode_shown
from biddable.data.problems import Problem
from biddable.data.segments import ChatTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CHUNK = 2_000
_MIN_ROWS = 30  # fewer say nothing about what is usual
_FENCES = 1.5
_MIN_SPREAD = 0.25  # of log lengths; a file of equal answers has none of its own
_MIN_TIMES = 4  # as long as what nearly all others stay under


@dataclass(frozen=True, slots=True)
class RowLength:
    """Hold the lengths of one row, in tokens or in characters.

    Attributes:
        prompt: what is not learned.
        answer: what is learned, stops included.
        over: what is beyond the limit.
        learned_over: the part of that that would have been learned.
        stops_over: answers whose end is beyond the limit.
    """

    prompt: int
    answer: int
    over: int = 0
    learned_over: int = 0
    stops_over: int = 0

    @property
    def total(self) -> int:
        """Add prompt and answer."""
        return self.prompt + self.answer


@dataclass(frozen=True, slots=True)
class Truncation:
    """Count what a length limit costs.

    Attributes:
        max_seq_len: the limit; None if there is none.
        rows_over: rows longer than it, which training drops or refuses.
        tokens_over: tokens beyond it.
        learned_tokens_over: those of them that would have been learned.
        stops_lost: answers whose end is beyond it.
        rows_without_answer: rows in which nothing learned is left before it.
    """

    max_seq_len: int | None
    rows_over: int = 0
    tokens_over: int = 0
    learned_tokens_over: int = 0
    stops_lost: int = 0
    rows_without_answer: int = 0


def measure_characters(row: Conversation) -> RowLength:
    """Measure a row without a tokenizer."""
    if row.text is not None:
        return RowLength(0, len(row.text))
    learned = [m.role == "assistant" and m.learn for m in row.messages]
    lengths = [len(message.text) for message in row.messages]
    answer = sum(length for length, is_learned in zip(lengths, learned, strict=True) if is_learned)
    return RowLength(sum(lengths) - answer, answer)


def measure_tokens(
    conversations: Sequence[Conversation],
    template: ChatTemplate,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_seq_len: int | None,
) -> tuple[list[RowLength | None], list[Problem]]:
    """Measure rows as the trainer will see them.

    Args:
        conversations: the rows.
        template: renders them.
        tokenizer: encodes them.
        max_seq_len: tokens a row may have; None for no limit.

    Returns:
        lengths: of each row, None where the template cannot show it or nothing is learned.
        problems: errors ``template`` and ``too-long``.
    """
    lengths: list[RowLength | None] = []
    problems: list[Problem] = []
    for start in range(0, len(conversations), _CHUNK):
        chunk = conversations[start : start + _CHUNK]
        for row, example in zip(
            chunk, _encode_each(chunk, template, tokenizer, problems=problems), strict=True
        ):
            length = None if example is None else _cut(example, max_seq_len)
            lengths.append(length)
            if length and length.over:
                text = (
                    f"has {length.total:,} tokens, {length.over:,} over the limit of"
                    f" {max_seq_len:,}; shorten it, or raise --max-seq-len."
                )
                problems.append(Problem("too-long", text, row.path, row.line))
    return lengths, problems


def ledger(lengths: Sequence[RowLength], max_seq_len: int | None) -> Truncation:
    """Add up what a limit costs.

    Example:
        >>> ledger([RowLength(5, 3), RowLength(8, 6, 4, 4, 1)], 10).stops_lost
        1
    """
    over = [length for length in lengths if length.over]
    return Truncation(
        max_seq_len,
        rows_over=len(over),
        tokens_over=sum(length.over for length in over),
        learned_tokens_over=sum(length.learned_over for length in over),
        stops_lost=sum(length.stops_over for length in over),
        rows_without_answer=sum(length.learned_over == length.answer for length in over),
    )


def describe_lengths(lengths: Sequence[RowLength], measure: str) -> dict[str, Any]:
    """Give percentiles of prompts, answers and rows, and the share that is learned.

    Args:
        lengths: of the rows.
        measure: what they are counted in, and by whose tokenizer.
    """
    parts: dict[str, list[int]] = {
        "prompt": [length.prompt for length in lengths],
        "answer": [length.answer for length in lengths],
        "total": [length.total for length in lengths],
    }
    learned, total = sum(parts["answer"]), sum(parts["total"])
    return {
        "measured_in": measure,
        **{name: percentiles(values) for name, values in parts.items()},
        "learned_share": round(learned / total, 4) if total else None,
    }


def percentiles(values: Sequence[int]) -> dict[str, int]:
    """Give the values that half, 95 and 99 % of all stay at or under, and the largest.

    Example:
        >>> percentiles(range(1, 101))
        {'p50': 50, 'p95': 95, 'p99': 99, 'max': 100}
    """
    ordered = sorted(values)
    if not ordered:
        return {"p50": 0, "p95": 0, "p99": 0, "max": 0}
    ranks = {f"p{q}": max(0, math.ceil(q / 100 * len(ordered)) - 1) for q in (50, 95, 99)}
    return {**{name: ordered[rank] for name, rank in ranks.items()}, "max": ordered[-1]}


def outlier_findings(
    conversations: Sequence[Conversation], lengths: Sequence[RowLength | None], unit: str
) -> list[Problem]:
    """Name rows whose prompt or answer is far longer than what is usual in the file.

    Args:
        conversations: the rows.
        lengths: of each.
        unit: they are counted in.

    Returns:
        Warnings ``length-outlier``.
    """
    known = [length for length in lengths if length]
    problems = []
    for part in ("prompt", "answer"):
        limit = _upper_fence([getattr(length, part) for length in known])
        for row, length in zip(conversations, lengths, strict=True):
            size = getattr(length, part) if length else 0
            if size > limit:
                text = (
                    f"its {part} has {size:,} {unit}, and {limit:,.0f} would be much in this file;"
                )
                text += " see whether it is one text, and shorten or delete it if not."
                problems.append(
                    Problem("length-outlier", text, row.path, row.line, None, "warning")
                )
    return problems


def _upper_fence(values: Sequence[int]) -> float:
    """Set Tukey's fence on the logarithms, and well above what nearly all stay under."""
    logs = [math.log(value) for value in values if value > 0]
    if len(logs) < _MIN_ROWS:
        return math.inf
    low, _, high = quantiles(logs, n=4)
    fence = math.exp(high + _FENCES * max(high - low, _MIN_SPREAD))
    return max(fence, _MIN_TIMES * percentiles(values)["p95"])


def _encode_each(
    rows: Sequence[Conversation],
    template: ChatTemplate,
    tokenizer: PreTrainedTokenizerBase,
    *,
    problems: list[Problem],
) -> list[Example | None]:
    """Encode the rows in one call; None for those that cannot be shown, or teach nothing."""
    numbered = [replace(row, path=str(n), line=None) for n, row in enumerate(rows)]
    can_learn = [
        row
        for row in numbered
        if row.text is not None or any(m.role == "assistant" and m.learn for m in row.messages)
    ]
    if not can_learn:
        return [None] * len(rows)
    examples, _, refused = encode_shown(can_learn, template, tokenizer)
    for number, reason in refused.items():
        row = rows[int(can_learn[number].source)]
        problems.append(Problem("template", reason, row.path, row.line))
    longest: dict[int, Example] = {}
    for example in examples:  # a row can become several, one for each answer
        number = int(example.source)
        known = longest.setdefault(number, example)
        if len(example.input_ids) > len(known.input_ids):
            longest[number] = example
    return [longest.get(number) for number in range(len(rows))]


def _cut(example: Example, max_seq_len: int | None) -> RowLength:
    num_ids, num_learned = len(example.input_ids), sum(example.loss_mask)
    if max_seq_len is None or num_ids <= max_seq_len:
        return RowLength(num_ids - num_learned, num_learned)
    ends, at = [], 0
    for is_learned, run in groupby(example.loss_mask):
        at += len(list(run))
        ends += [at] if is_learned else []
    return RowLength(
        num_ids - num_learned,
        num_learned,
        over=num_ids - max_seq_len,
        learned_over=sum(example.loss_mask[max_seq_len:]),
        stops_over=sum(end > max_seq_len for end in ends),
    )
