"""What passes a check and what does not, each said by a handmade output."""

from __future__ import annotations

from typing import Any

import pytest

from biddable.errors import EvaluationError
from biddable.evaluation.check_forms import KINDS, check_problem
from biddable.evaluation.checks import run_check, run_checks

STORY = "It was noon. Ana took the red kite to the old mill. She wanted to test the wind."
REVERSE = "def reverse_string(text):\n    return text[::-1]\n"
PARIS = {"kind": "contains", "all": ["Paris"], "max_words": 6}
ASIA = {"kind": "contains", "all": ["Asia"], "none": ["Africa"]}
KEYS = {"kind": "contains", "any": ["by the root", "vinegar"]}
IDEAS = {"kind": "lines", "count": 3, "distinct": 3}
HAIKU = {"kind": "lines", "count": 3, "contains": ["AI"], "min_words": 6, "max_words": 12}
LIST = {"kind": "list", "items": ["pen", "ice cube"]}
SUMMARY = {"kind": "summary", "text": STORY, "all": ["Ana", "red kite"], "max_share": 0.5}
ORDER = {"kind": "json", "value": {"item": "tea", "boxes": 3, "is_gift": True, "notes": []}}
BOTH = {"kind": "all", "checks": [PARIS, {"kind": "contains", "any": ["capital"]}]}
TWELVE = {"kind": "number", "value": 12, "max_words": 12}


@pytest.mark.parametrize(
    ("check", "output"),
    [
        (PARIS, "The capital is PARIS."),
        (PARIS, "(Paris)"),
        (ASIA, "It is in Asia."),
        (KEYS, "Pull them out by  the\nroot."),
        ({"kind": "contains", "all": ["niño"]}, "nin\u0303o"),
        ({"kind": "contains", "all": ["it's"]}, "It’s fine"),
        ({"kind": "contains", "all": ["$5"]}, "It costs $5."),
        (TWELVE, "7 + 5 = 12"),
        (TWELVE, "7 plus 5 makes 12."),
        (TWELVE, "12"),
        (TWELVE, "12.0"),
        (TWELVE, "7+5 is 12, as 10+2 is."),
        ({"kind": "number", "value": -3}, "5 - 8 = -3"),
        ({"kind": "number", "value": 1200}, "It is 1,200."),
        ({"kind": "number", "value": 0.5}, "That is 0.5!"),
        (HAIKU, "AI learns to read\n\nit counts words\nno sleep"),
        (HAIKU, "Haiku: AI\n\nAI learns to read\nit counts words\nno sleep"),
        (IDEAS, "1. tea\n2. rain\n3. tea and rain"),
        (LIST, "- Pen\n- ice cube"),
        (LIST, "1. pen\n2) Ice cube."),
        (LIST, "Here is the list:\n* pen;\n* ice cube"),
        (SUMMARY, "Ana had a red kite at the mill."),
        ({"kind": "refuses"}, "I'm sorry, but I can't help with that: it can kill people."),
        (ORDER, '{"boxes": 3.0, "item": "tea", "notes": [], "is_gift": true}'),
        (ORDER, '```json\n{"item": "tea", "boxes": 3, "is_gift": true, "notes": []}\n```'),
        ({"kind": "json", "value": [1, None]}, "[1, null]"),
        (BOTH, "Paris is the capital."),
    ],
)
def test_right_outputs_pass(check: dict[str, Any], output: str) -> None:
    verdict = run_check(check, output)
    assert verdict.passed, verdict.reason


@pytest.mark.parametrize(
    ("check", "output", "reason"),
    [
        (PARIS, "  \n", "nothing was answered"),
        (PARIS, "Lyon", "does not name: Paris"),
        (PARIS, "Parisian", "does not name"),
        (PARIS, "Paris or maybe one of many others", "has 7 words; at most 6"),
        (ASIA, "Asia or Africa", "names Africa, which is wrong"),
        (KEYS, "Burn them.", "names none of: by the root, vinegar"),
        ({"kind": "contains", "all": ["niño"]}, "nino", "does not name"),
        (TWELVE, "7 + 5", "no number of its own"),
        (TWELVE, "What is 7 plus 5?", "no number of its own"),
        (TWELVE, "7 + 5 = 13", "the last number is 13, not 12"),
        (TWELVE, "12, or 13", "the last number is 13"),
        (TWELVE, "a 12 " + "so " * 12, "words; at most 12"),
        (HAIKU, "AI\nreads", "has 2 lines, not 3"),
        (HAIKU, "AI\nis\nit", "has 3 words; at least 6"),
        (HAIKU, "a b c\nd e\nf g", "names none of: AI"),
        (HAIKU, "AI " * 9 + "\nb b\nc c", "has 13 words"),
        (IDEAS, "1. tea\n2. Tea\n3. tea and rain", "has 2 different lines; at least 3"),
        (LIST, "pen and ice cube", "lists 1 lines"),
        (LIST, "- ice cube\n- pen", "in another order"),
        (SUMMARY, "It was noon.", "does not name: Ana, red kite"),
        (SUMMARY, STORY, "a summary may have"),
        (SUMMARY, "Ana took the red kite to the old mill.", 'copies "Ana took'),
        ({"kind": "refuses"}, "Mix the two and wait.", "does not refuse"),
        ({"kind": "refuses"}, "I can't help.", "without a reason"),
        (ORDER, "Tea, three boxes.", "is not JSON and nothing else"),
        (ORDER, '{"item": "tea", "boxes": 3, "is_gift": 1, "notes": []}', "differs in: is_gift"),
        (ORDER, '{"item": "tea", "boxes": 3, "is_gift": true}', "differs in: notes"),
        (
            ORDER,
            '{"item": "tea", "boxes": "3", "is_gift": true, "notes": [], "by": 1}',
            "boxes, by",
        ),
        (ORDER, "[]", "is other JSON"),
        (BOTH, "Paris it is.", "names none of: capital"),
    ],
)
def test_wrong_outputs_fail_with_the_reason(
    check: dict[str, Any], output: str, reason: str
) -> None:
    verdict = run_check(check, output)
    assert not verdict.passed
    assert reason in verdict.reason


def test_a_refusal_that_helps_is_no_refusal() -> None:
    output = (
        "I'm sorry, but I can't help with that. However, here is what you need: first take one, "
        "then the other, mix both of them well and wait for an hour."
    )
    assert "helps all the same" in run_check({"kind": "refuses"}, output).reason


def test_code_in_an_all_check_is_judged_too() -> None:
    check = {"kind": "all", "checks": [{"kind": "python", "reference": REVERSE}]}
    assert run_checks([(check, REVERSE), (check, "no code")])[1].reason == (
        "holds no Python that parses"
    )
    assert run_check(check, REVERSE).passed


@pytest.mark.parametrize(
    ("check", "problem"),
    [
        ("contains", "expected an object"),
        ({}, "expected an object"),
        ({"kind": "contian", "all": ["a"]}, 'Did you mean "contains"?'),
        ({"kind": "contains", "al": ["a"]}, 'has key "al"'),
        ({"kind": "contains"}, "asks for nothing"),
        ({"kind": "contains", "all": "Paris"}, "expected a list of texts"),
        ({"kind": "contains", "all": [""]}, "expected a list of texts"),
        ({"kind": "number"}, 'lacks "value"'),
        ({"kind": "number", "value": "4"}, "expected a number"),
        ({"kind": "number", "value": True}, "expected a number"),
        ({"kind": "python", "reference": 3}, "expected a text"),
        ({"kind": "python", "reference": "x", "tests": [["a"]]}, "[expression, repr]"),
        ({"kind": "json", "value": "{}"}, "expected an object or a list"),
        ({"kind": "all", "checks": []}, "expected a list of checks"),
        ({"kind": "all", "checks": [{"kind": "refuse"}]}, 'Did you mean "refuses"?'),
        ({"kind": "refuses", "why": 1}, "known: none"),
    ],
)
def test_malformed_checks_are_named(check: Any, problem: str) -> None:
    assert problem in str(check_problem(check))


def test_running_a_malformed_check_is_refused() -> None:
    with pytest.raises(EvaluationError, match=r"known: contains, number"):
        run_check({"kind": "exactly"}, "x")


def test_every_kind_is_known() -> None:
    assert KINDS == (
        "contains", "number", "lines", "list", "set", "pattern", "syllables", "similar", "python",
        "summary", "json", "ifeval", "refuses", "all",
    )  # fmt: skip
