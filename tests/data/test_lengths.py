"""Hold lengths, the truncation ledger, and which rows stand out."""

from __future__ import annotations

import pytest

from biddable.data.conversation import Conversation, Message
from biddable.data.encoding import encode
from biddable.data.lengths import (
    RowLength,
    Truncation,
    describe_lengths,
    ledger,
    measure_characters,
    measure_tokens,
    outlier_findings,
    percentiles,
)
from biddable.data.templates import get_template
from tests.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
INST = get_template("inst", TOKENIZER)


def row(answer: str, *, line: int = 1, learn: bool = True) -> Conversation:
    messages = (Message("user", "Say it."), Message("assistant", answer, learn))
    return Conversation(messages, "a.jsonl", line)


def test_characters_of_what_is_asked_and_what_is_learned() -> None:
    assert measure_characters(row("Four")) == RowLength(prompt=7, answer=4)
    assert measure_characters(row("Four", learn=False)) == RowLength(prompt=11, answer=0)
    assert measure_characters(Conversation((), text="plain")) == RowLength(prompt=0, answer=5)


def test_tokens_are_those_of_the_trainer() -> None:
    given = [row("Paris."), row("The capital is Paris.")]
    lengths, problems = measure_tokens(given, INST, TOKENIZER, max_seq_len=None)
    for conversation, length in zip(given, lengths, strict=True):
        example = encode(conversation, INST, TOKENIZER)
        learned = sum(example.loss_mask)
        assert length == RowLength(len(example.input_ids) - learned, learned)
    assert problems == []


def test_a_limit_counts_what_it_would_cost() -> None:
    short, long = row("Yes."), row("The capital of France is Paris. " * 3, line=2)
    num_long = len(encode(long, INST, TOKENIZER).input_ids)
    limit = num_long - 2
    lengths, [problem] = measure_tokens([short, long], INST, TOKENIZER, max_seq_len=limit)
    assert (problem.code, problem.severity, problem.line) == ("too-long", "error", 2)
    assert f"has {num_long} tokens, 2 over the limit of {limit}" in problem.message
    known = [length for length in lengths if length]
    assert ledger(known, limit) == Truncation(
        limit, rows_over=1, tokens_over=2, learned_tokens_over=2, stops_lost=1
    )


def test_a_row_whose_prompt_fills_the_limit_has_nothing_left() -> None:
    [length], _ = measure_tokens([row("Yes.")], INST, TOKENIZER, max_seq_len=2)
    assert length is not None
    assert ledger([length], 2).rows_without_answer == 1


def test_stops_of_all_answers_beyond_the_limit_are_lost() -> None:
    turns = (Message("user", "Say it."), Message("assistant", "Yes.")) * 3
    talk = Conversation(turns, "a.jsonl", 1)
    mask = encode(talk, INST, TOKENIZER).loss_mask
    first_end = mask.index(False, mask.index(True))
    [length], _ = measure_tokens([talk], INST, TOKENIZER, max_seq_len=first_end)
    assert length is not None
    assert length.stops_over == 2


def test_a_row_that_the_template_cannot_show_is_named_and_the_others_are_measured() -> None:
    tool = Conversation(
        (Message("user", "Go."), Message("tool", "21"), Message("assistant", "21.")), "a.jsonl", 2
    )
    lengths, [problem] = measure_tokens([row("Yes."), tool], INST, TOKENIZER, max_seq_len=None)
    assert (problem.code, problem.line, problem.severity) == ("template", 2, "error")
    assert "cannot show" in problem.message
    assert lengths[0] is not None
    assert lengths[1] is None


@pytest.mark.parametrize("others", [[], [row("Yes.")], [Conversation((Message("tool", "1"),))]])
def test_a_row_with_nothing_learned_has_no_length(others: list[Conversation]) -> None:
    lengths, _ = measure_tokens(
        [row("No.", learn=False), *others], INST, TOKENIZER, max_seq_len=None
    )
    assert lengths[0] is None


def test_percentiles_of_few_and_none() -> None:
    assert percentiles([]) == {"p50": 0, "p95": 0, "p99": 0, "max": 0}
    assert percentiles([3]) == {"p50": 3, "p95": 3, "p99": 3, "max": 3}
    assert percentiles([1, 9]) == {"p50": 1, "p95": 9, "p99": 9, "max": 9}


def test_what_is_said_of_lengths() -> None:
    told = describe_lengths([RowLength(3, 1), RowLength(5, 3)], "characters")
    assert told["measured_in"] == "characters"
    assert told["total"]["max"] == 8
    assert told["learned_share"] == pytest.approx(4 / 12, abs=1e-4)
    assert describe_lengths([], "characters")["learned_share"] is None


def outliers(lengths: list[RowLength]) -> list[int | None]:
    given = [row("x", line=n) for n in range(len(lengths))]
    return [problem.line for problem in outlier_findings(given, lengths, "tokens")]


def test_a_row_far_longer_than_the_others_stands_out() -> None:
    usual = [RowLength(20 + n % 9, 30 + n % 17) for n in range(60)]
    assert outliers([*usual, RowLength(20, 900)]) == [60]
    assert outliers([RowLength(2000, 30), *usual]) == [0]


def test_lengths_that_vary_do_not_stand_out() -> None:
    assert outliers([RowLength(10 + n, 1 + 3 * n) for n in range(200)]) == []
    assert outliers([RowLength(5, 5)] * 40) == []


def test_a_few_rows_say_nothing_about_what_is_usual() -> None:
    assert outliers([RowLength(5, 5)] * 10 + [RowLength(5, 5000)]) == []
