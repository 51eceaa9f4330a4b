"""The forms of instructions, the readings of a response, and the four accuracies."""

from __future__ import annotations

from typing import Any

import pytest

from biddable.evaluation.check_forms import check_problem
from biddable.evaluation.checks import Verdict, run_check
from biddable.evaluation.ifeval.judging import instructions_problem, judge_response
from biddable.evaluation.ifeval.scoring import ifeval_scores
from biddable.evaluation.runner import judge_outputs
from biddable.evaluation.scores import scores
from biddable.evaluation.suites import load_suite

NO_COMMA = {"id": "punctuation:no_comma", "kwargs": {}}
WORDS = {
    "id": "length_constraints:number_words",
    "kwargs": {"num_words": 3, "relation": "at least"},
}


def letter(sign: str, count: int) -> list[dict[str, Any]]:
    kwargs = {"letter": sign, "let_frequency": count, "let_relation": "at least"}
    return [{"id": "keywords:letter_frequency", "kwargs": kwargs}]


def test_a_verdict_has_both_modes_and_names_what_is_broken() -> None:
    check = {"kind": "ifeval", "instructions": [NO_COMMA, WORDS]}
    verdict = run_check(check, "Sure, here:\na cat sat")
    assert not verdict.passed
    assert verdict.reason == "does not follow punctuation:no_comma"
    assert verdict.details == {"strict": [False, True], "loose": [True, True], "loose_passed": True}
    assert run_check(check, "").details["strict"] == [False, False]
    assert run_check(check, " \n").details["loose_passed"] is False


def test_a_sign_that_is_no_letter_is_judged_by_most_letters() -> None:
    many = "the quick brown fox jumps over the lazy dog " * 4
    assert judge_response(many, letter("#", 4))["strict"] == [True]
    assert judge_response("### ####", letter("#", 4))["strict"] == [False]


@pytest.mark.parametrize(
    ("instructions", "problem"),
    [
        ([], "there are no instructions"),
        (["punctuation:no_comma"], "expected an object with an id"),
        ([{"id": "punctuation:no_coma"}], 'Did you mean "punctuation:no_comma"?'),
        ([NO_COMMA, {**WORDS, "kwargs": None}], "2 (length_constraints:number_words) lacks"),
        ([{**WORDS, "kwargs": {"num_words": 0, "relation": "at least"}}], 'lacks "num_words"'),
        ([{**WORDS, "kwargs": {"num_words": -1, "relation": "at least"}}], "number above 0"),
        ([{**WORDS, "kwargs": {"num_words": 1, "relation": "over"}}], "less than or at least"),
        ([{**NO_COMMA, "kwargs": {"words": 1}}], 'has the argument "words"; known: none'),
        ([{**NO_COMMA, "kwargs": [1]}], "expected an object or null"),
        ([{"id": "keywords:existence", "kwargs": {"keywords": ["("]}}], "list of regular"),
        ([{"id": "length_constraints:nth_paragraph_first_word",
           "kwargs": {"num_paragraphs": 2, "nth_paragraph": 3, "first_word": "a"}}], "3 of 2"),
    ],
)  # fmt: skip
def test_malformed_instructions_are_told(instructions: list[Any], problem: str) -> None:
    assert problem in str(instructions_problem(instructions))


def test_nulls_count_as_not_given() -> None:
    kwargs = {"num_words": 3, "relation": "at least", "keywords": None, "letter": None}
    assert check_problem({"kind": "ifeval", "instructions": [{**WORDS, "kwargs": kwargs}]}) is None


def test_deep_json_is_no_error() -> None:
    is_json = [{"id": "detectable_format:json_format", "kwargs": {}}]
    assert judge_response("[" * 100_000, is_json)["strict"] == [False]


def test_accuracies_are_by_prompt_and_by_instruction() -> None:
    one = {"strict": [True, False, False], "loose": [True, True, False], "loose_passed": False}
    two = {"strict": [True], "loose": [True], "loose_passed": True}
    found = ifeval_scores(
        [Verdict(False, "", one), Verdict(True, "", two), Verdict(True, ""), None]
    )
    rates = {name: (rate["rate"], rate["n"]) for name, rate in found.items() if rate}
    assert rates == {
        "prompt_strict": (0.5, 2),
        "prompt_loose": (0.5, 2),
        "instruction_strict": (0.5, 4),
        "instruction_loose": (0.75, 4),
    }


def test_scores_have_them_where_such_items_are() -> None:
    samples = load_suite("formatting")[:10]
    block = scores(judge_outputs(samples, [sample.response for sample in samples]))
    assert block["prompt_strict"]["rate"] == 1.0
    assert block["instruction_loose"]["n"] >= 10
    plain = load_suite("starter")[:5]
    assert "prompt_strict" not in scores(judge_outputs(plain, [s.response for s in plain]))
