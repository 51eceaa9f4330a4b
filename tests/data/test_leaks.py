"""Hold what is found of held-out rows and benchmarks among the training rows."""

from __future__ import annotations

import pytest

from biddable.data.conversation import Conversation, Message
from biddable.data.leaks import (
    benchmark_findings,
    benchmark_items,
    entity_findings,
    held_out_findings,
)
from biddable.data.near import sign
from biddable.data.problems import Problem
from biddable.data.wording import prompt_of

QUESTION = (
    "A baker sells forty loaves each morning and half as many each afternoon; how many loaves does"
    " she sell in a week of six days?"
)


def rows(path: str, *prompts: str, **extra: object) -> list[Conversation]:
    return [
        Conversation(
            (Message("user", prompt), Message("assistant", "Done.")), path, line, extra=extra
        )
        for line, prompt in enumerate(prompts, start=1)
    ]


def leaks(train: list[Conversation], held_out: list[Conversation]) -> list[Problem]:
    return held_out_findings(
        train,
        held_out,
        train_signatures=sign([prompt_of(row) for row in train]),
        held_out_signatures=sign([prompt_of(row) for row in held_out]),
    )


def test_a_prompt_on_both_sides_is_an_error() -> None:
    [problem] = leaks(rows("t", "Who?", "What now?"), rows("h", "Why?", "what  now"))
    assert (problem.code, problem.severity, problem.line) == ("leak", "error", 2)
    assert "held-out h:2" in problem.message


def test_a_prompt_nearly_on_both_sides_is_a_warning() -> None:
    [problem] = leaks(rows("t", QUESTION), rows("h", "Why?", QUESTION.replace("forty", "fifty")))
    assert (problem.code, problem.severity, problem.line) == ("near-leak", "warning", 1)
    assert "h:2" in problem.message


def test_other_prompts_do_not_leak() -> None:
    assert leaks(rows("t", QUESTION, "Who?"), rows("h", "Why?", "How many?")) == []


def test_an_entity_on_both_sides_is_an_error() -> None:
    train = rows("t", "Who?", about="country:1") + rows("t", "What?", about="country:2")
    [problem] = entity_findings(train, rows("h", "Why?", about="country:2"), "about")
    assert (problem.code, problem.severity) == ("entity-leak", "error")
    assert 'its about "country:2" is held out in h:1 too' in problem.message


def test_a_key_that_no_row_has_is_an_error() -> None:
    found = entity_findings(rows("t", "Who?", about=1), rows("h", "Why?"), "about")
    assert [(problem.code, problem.path) for problem in found] == [("no-entity", "h")]


def items(*texts: str) -> list[tuple[str, list[str]]]:
    return benchmark_items([(n, {"q": text}) for n, text in enumerate(texts, start=1)], "b")


def test_a_whole_benchmark_text_is_an_error() -> None:
    [problem] = benchmark_findings(rows("t", f"Listen. {QUESTION} Hm?"), items("Other.", QUESTION))
    assert (problem.severity, problem.line) == ("error", 1)
    assert "b:2" in problem.message


def test_thirteen_words_in_a_row_are_a_warning_and_twelve_are_nothing() -> None:
    words = QUESTION.split()
    [problem] = benchmark_findings(rows("t", " ".join(words[:13])), items(QUESTION))
    assert problem.severity == "warning"
    assert "shares 13 words" in problem.message
    assert benchmark_findings(rows("t", " ".join(words[:12])), items(QUESTION)) == []


def test_a_short_text_counts_whole_only() -> None:
    short = items("How do I kill a Python process?")
    [problem] = benchmark_findings(rows("t", "So: how do I kill a python process, please?"), short)
    assert problem.severity == "error"
    assert benchmark_findings(rows("t", "How do I kill a process?"), short) == []


@pytest.mark.parametrize("text", ["Yes.", "What is the capital"])
def test_texts_of_a_few_words_are_not_looked_for(text: str) -> None:
    assert items(text) == []


def test_texts_are_found_wherever_a_row_keeps_them() -> None:
    row = {"id": 1, "turns": ["one two three four five", {"deep": "six seven eight nine ten"}]}
    assert [words[0] for _, words in benchmark_items([(4, row)], "b")] == ["one", "six"]
