"""The kinds of check that read numbers, sets, patterns, syllables, schemas and likeness."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest

from biddable.errors import EvaluationError
from biddable.evaluation.check_forms import check_problem
from biddable.evaluation.checks import run_check
from biddable.evaluation.syllables import count_syllables
from tests.evaluation.syllable_words import COMMON, RARE

HALF = {"kind": "number", "value": 0.5}
CUPS = {"kind": "number", "value": 3.5}
MANY = {"kind": "number", "value": 1234567}
FAR = {
    "kind": "number",
    "value": 5,
    "units": {"km": 1, "kilometres": 1, "m": 0.001, "miles": 1.609},
}
PRICE = {"kind": "number", "value": 5, "units": {"$": 1, "dollars": 1}}
PRIMES = {"kind": "set", "items": ["two", "three", "five"]}
CODE = {"kind": "pattern", "pattern": r"[A-Z]{3}-\d{4}", "whole": True}
HAIKU = {"kind": "syllables", "lines": [5, 7, 5]}
POEM = "An old silent pond\nA frog jumps into the pond\nSplash silence again"
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
PERSON = {"kind": "json", "schema": SCHEMA}
LIKE = {"kind": "similar", "reference": "The cat sat on the mat.", "min_rouge_l": 0.6}


@pytest.mark.parametrize(
    ("check", "output"),
    [
        (HALF, "1/2"), (HALF, "The answer is ½."), (HALF, "That is 50%."), (HALF, "0,5"),
        (HALF, "50 per cent"), (HALF, ".5 or 0.5"), (HALF, "5e-1"), (HALF, "2/4 = 1/2"),
        (CUPS, "3 1/2 cups"), (CUPS, "3½"), (CUPS, "3 and 1/2"), (CUPS, "7/2"),
        ({"kind": "number", "value": -0.25}, "It is -1/4."),
        ({"kind": "number", "value": 50}, "50 %"),
        (MANY, "1,234,567"), (MANY, "1.234.567"), (MANY, "1 234 567"), (MANY, "1'234'567"),
        (MANY, "1\u202f234\u202f567"), (MANY, "1234567.0"),
        ({"kind": "number", "value": 1234.5}, "1,234.50"),
        ({"kind": "number", "value": 1234.5}, "1.234,50 €"),
        ({"kind": "number", "value": 1500}, "1.500"),
        ({"kind": "number", "value": 3.14, "tolerance": 0.01}, "about 3.1416"),
        (FAR, "It is 5 km."), (FAR, "5,000 m"), (FAR, "5 kilometres away, in 3 days"), (FAR, "5km"),
        (PRICE, "It costs $5."), (PRICE, "5 dollars for 3"),
        (PRIMES, "five, two and three"), (PRIMES, "- Three\n- two\n- Five"),
        (PRIMES, "The primes are:\n1. two\n2. three\n3. five"),
        (PRIMES, "They are: two; three; five."),
        (PRIMES, "The primes below 7 are two, three and five."),
        (PRIMES, "Two, three and five are the primes below 7."),
        (CODE, " ABC-1234\n"), ({"kind": "pattern", "pattern": r"(?i)yes\b"}, "Well, YES."),
        (HAIKU, POEM),
        (PERSON, '{"name": "Ana", "age": 7}'), (PERSON, '```json\n{"age": 0, "name": ""}\n```'),
        (LIKE, "A cat sat on the mat."),
    ],
)  # fmt: skip
def test_passes(check: dict[str, Any], output: str) -> None:
    verdict = run_check(check, output)
    assert verdict.passed, verdict.reason


@pytest.mark.parametrize(
    ("check", "output", "reason"),
    [
        (HALF, "1/3", "the last number is 0.333333, not 0.5"),
        (HALF, "2/4", "gives no number of its own"),
        (HALF, "1/2 + 1/4 = 3/4", "the last number is 0.75"),
        (HALF, "1/2, no, 3", "the last number is 3"),
        ({"kind": "number", "value": 2}, "10/5", "gives no number of its own"),
        (CUPS, "3 1/3", "not 3.5"), (CUPS, "3 of 1/2", "not 3.5"),
        ({"kind": "number", "value": 1}, "1/0", "gives no number of its own"),
        (MANY, "1,234,56", "not 1.23457e+06"), (MANY, "12,345,678", "not 1.23457e+06"),
        (FAR, "It is 5.", "gives no number in km or kilometres"),
        (FAR, "5 miles", "is 8.045, not 5"),
        (FAR, "5 kmh", "gives no number in"), (PRICE, "5 euros", "gives no number in"),
        (PRIMES, "two and three", "is another set; lacks five"),
        (PRIMES, "two, three, five, five", "is another set; has one twice"),
        (PRIMES, "The primes are two, three and seven.", "lacks five; has seven besides"),
        (PRIMES, "Two, three and five are not the primes.", "lacks five"),
        (PRIMES, "two, three, five, seven", "is another set; has seven besides"),
        (CODE, "It is ABC-1234.", "does not fit the pattern"),
        (HAIKU, POEM.replace("old ", ""), "line 1 has 4 syllables, not 5"),
        (HAIKU, "An old silent pond", "has 1 lines, not 3"),
        (PERSON, '{"name": "Ana"}', "'age' is a required property"),
        (PERSON, '{"name": "Ana", "age": -1}', "$.age: -1 is less than the minimum"),
        (PERSON, '{"name": "Ana", "age": 7, "x": 1}', "Additional properties"),
        (PERSON, "Ana is 7.", "is not JSON"),
        (LIKE, "Dogs bark.", "has ROUGE-L 0.00 to the reference; at least 0.6 is asked"),
    ],
)  # fmt: skip
def test_fails_with_the_reason(check: dict[str, Any], output: str, reason: str) -> None:
    verdict = run_check(check, output)
    assert not verdict.passed
    assert reason in verdict.reason


@pytest.mark.parametrize(
    ("check", "problem"),
    [
        ({"kind": "pattern", "pattern": "(a"}, "cannot be read: missing )"),
        ({"kind": "json"}, 'takes either "value" or "schema"'),
        ({"kind": "json", "schema": {"type": "integr"}}, "has no JSON Schema: $.type"),
        ({"kind": "json", "schema": {"$ref": "http://x.org/s"}}, 'has a "$ref" to elsewhere'),
        ({"kind": "number", "value": 1, "units": {}}, "expected an object of units"),
        ({"kind": "syllables", "lines": []}, "expected a list of whole numbers"),
        ({"kind": "ifeval", "instructions": []}, "expected a list of instructions"),
        ({"kind": "all", "checks": [{"kind": "ifeval"}]}, 'of kind "ifeval" stands alone'),
    ],
)
def test_malformed_checks_are_told(check: dict[str, Any], problem: str) -> None:
    assert problem in str(check_problem(check))


def test_a_catastrophic_pattern_is_stopped() -> None:
    check = {"kind": "pattern", "pattern": r"(x+x+)+y"}
    started = time.monotonic()
    verdict = run_check(check, "x" * 4000)
    assert verdict.reason == "the pattern took longer than 1 s on this answer"
    assert time.monotonic() - started < 20


def test_syllables_are_right_nearly_always_on_common_words_and_mostly_on_rare_ones() -> None:
    def right(words: dict[str, int]) -> int:
        spans = {word: count_syllables(word) for word in words}
        return sum(spans[word][0] <= n <= spans[word][1] for word, n in words.items())

    assert (right(COMMON), len(COMMON)) == (101, 102)
    assert (right(RARE), len(RARE)) == (29, 40)


@pytest.mark.parametrize(
    ("module", "check", "output"),
    [
        ("rouge_score.rouge_scorer", LIKE, "A cat."),
        ("langdetect.lang_detect_exception",
         {"kind": "ifeval", "instructions": [
             {"id": "language:response_language", "kwargs": {"language": "en"}}]}, "A new text"),
    ],
)  # fmt: skip
def test_a_package_that_is_missing_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, module: str, check: dict[str, Any], output: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EvaluationError, match=r"needs the package \w+: pip .* -e '\.\[m"):
        run_check(check, output)
