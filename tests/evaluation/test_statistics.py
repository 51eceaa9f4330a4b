"""Intervals and p-values, against values known from elsewhere."""

from __future__ import annotations

import pytest

from biddable.errors import EvaluationError
from biddable.evaluation.statistics import mcnemar, rate, rate_of, wilson


def test_wilson_is_the_published_interval() -> None:
    # Newcombe 1998, table I: 81 of 263
    assert wilson(81, 263) == pytest.approx([0.2553, 0.3662], abs=5e-5)


@pytest.mark.parametrize(("successes", "n"), [(0, 5), (5, 5), (1, 1)])
def test_wilson_stays_between_0_and_1(successes: int, n: int) -> None:
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_impossible_counts_are_refused(successes: int, n: int) -> None:
    with pytest.raises(EvaluationError, match="is no share"):
        wilson(successes, n)


def test_a_rate_has_its_interval_and_count() -> None:
    assert rate(3, 4) == {"rate": 0.75, "ci95": wilson(3, 4), "n": 4}
    assert rate(0, 0) is None


def test_what_is_not_known_does_not_count() -> None:
    assert rate_of([True, None, False, True]) == rate(2, 3)
    assert rate_of([None]) is None


def test_mcnemar_is_the_exact_binomial_test() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(8, 2) == pytest.approx(0.109375)
    assert mcnemar(2, 8) == mcnemar(8, 2)
    assert mcnemar(3, 3) == 1.0
