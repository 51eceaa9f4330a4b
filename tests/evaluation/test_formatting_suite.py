"""The built-in formatting suite: solvable, of all kinds, and hard to pass by cheating."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from biddable.evaluation.checks import run_checks
from biddable.evaluation.ifeval.instructions import INSTRUCTIONS
from biddable.evaluation.runner import judge_outputs
from biddable.evaluation.sample import Sample
from biddable.evaluation.suites import fewshot_examples, load_suite

FIXED = (
    "**Sure!** Here is a clear and helpful answer:\n\n* First, think about what you need.\n"
    "* Second, make a plan.\n* Third, carry it out.\n\nI hope that this helps!"
)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return load_suite("formatting")


def test_all_kinds_are_asked_for_and_no_prompt_twice(samples: list[Sample]) -> None:
    kinds = Counter(i["id"] for sample in samples for i in (sample.check or {})["instructions"])
    assert len(samples) >= 120
    assert set(kinds) == set(INSTRUCTIONS)
    assert min(kinds.values()) >= 5
    assert len({sample.instruction for sample in samples}) == len(samples)
    assert len(fewshot_examples("formatting")) == 3


def test_every_reference_passes_strictly(samples: list[Sample]) -> None:
    verdicts = run_checks([(sample.check or {}, sample.response) for sample in samples])
    assert [s.id for s, v in zip(samples, verdicts, strict=True) if not v.passed] == []


@pytest.mark.parametrize(
    ("cheat", "most"),
    [
        (lambda sample: "", 0),
        (lambda sample: sample.instruction, 0),
        (lambda sample: FIXED, 8),
        (lambda sample: "My answer is yes.", 12),
    ],
    ids=["empty", "echo", "one text", "one answer"],
)
def test_cheats_pass_few(samples: list[Sample], cheat: Callable[[Sample], str], most: int) -> None:
    verdicts = run_checks([(sample.check or {}, cheat(sample)) for sample in samples])
    assert sum(verdict.passed for verdict in verdicts) <= most


def test_answers_are_judged_whole(samples: list[Sample]) -> None:
    """Two responses are no run-on to IFEval, and what follows a run-on counts as well."""
    asked = next(
        s for s in samples if "three bullet" in s.instruction or "exactly three" in s.instruction
    )
    (outcome,) = judge_outputs([asked], [asked.response + "\n\nInstruction: Name a city.\n- Oslo"])
    assert outcome.correct is False
    assert outcome.verdict
    assert outcome.verdict.details["strict"][0] is False
