"""Turn counts into rates with intervals, and say how surely two models differ."""

from __future__ import annotations

from collections.abc import Iterable

from scipy.stats import binomtest
from statsmodels.stats.proportion import proportion_confint

from biddable.errors import EvaluationError

Rate = dict[str, object]


def wilson(successes: int, n: int) -> list[float]:
    """Give the Wilson interval of a share, at 95 %.

    Args:
        successes: of ``n`` trials.
        n: at least 1.

    Returns:
        Lower and upper bound, both from 0 to 1.

    Raises:
        EvaluationError: the counts are impossible.

    Example:
        >>> [round(bound, 3) for bound in wilson(95, 100)]
        [0.888, 0.978]
    """
    if not 0 <= successes <= n or n < 1:
        raise EvaluationError(f"{successes} of {n} is no share; expected 0 <= successes <= n.")
    low, high = proportion_confint(successes, n, alpha=0.05, method="wilson")
    return [max(0.0, float(low)), min(1.0, float(high))]


def rate(successes: int, n: int) -> Rate | None:
    """Give a share with its interval, as comparison.json has it; None without trials.

    Example:
        >>> rate(0, 0) is None
        True
        >>> rate(1, 2)["rate"], rate(1, 2)["n"]
        (0.5, 2)
    """
    if n == 0:
        return None
    return {"rate": successes / n, "ci95": wilson(successes, n), "n": n}


def rate_of(values: Iterable[bool | None]) -> Rate | None:
    """Give the share of those that are true, leaving out what is not known.

    Example:
        >>> rate_of([True, None, False])["rate"]
        0.5
    """
    known = [value for value in values if value is not None]
    return rate(sum(known), len(known))


def mcnemar(fixed: int, broken: int) -> float:
    """Give the exact p-value that two models, asked the same items, are equally good.

    Only items on which they differ count; each is a toss of a fair coin if they are.

    Args:
        fixed: items that only the second got right.
        broken: items that only the first got right.

    Returns:
        Two-sided p-value.

    Example:
        >>> mcnemar(5, 0), mcnemar(0, 0)
        (0.0625, 1.0)
    """
    if fixed + broken == 0:
        return 1.0
    return float(binomtest(min(fixed, broken), fixed + broken, 0.5).pvalue)
