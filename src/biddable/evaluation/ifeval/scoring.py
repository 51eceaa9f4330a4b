"""Count verdicts into IFEval's four accuracies."""

from __future__ import annotations

from collections.abc import Iterable

from biddable.evaluation.checks import Verdict
from biddable.evaluation.statistics import Rate, rate_of


def ifeval_scores(verdicts: Iterable[Verdict | None]) -> dict[str, Rate | None]:
    """Give the accuracies by prompt and by instruction, strict and loose, as IFEval defines them.

    Args:
        verdicts: of a suite; those of other checks do not count.

    Returns:
        ``prompt_strict``, ``prompt_loose``, ``instruction_strict`` and ``instruction_loose``, each
        a rate; nothing at all where no item is one of IFEval's.

    Example:
        >>> found = {"strict": [True, False], "loose": [True, True], "loose_passed": True}
        >>> scores = ifeval_scores([Verdict(False, "", found), None])
        >>> {name: rate["rate"] for name, rate in scores.items()}
        {'prompt_strict': 0.0, 'prompt_loose': 1.0, 'instruction_strict': 0.5, \
'instruction_loose': 1.0}
    """
    judged = [verdict for verdict in verdicts if verdict and verdict.details]
    if not judged:
        return {}
    return {
        "prompt_strict": rate_of(verdict.passed for verdict in judged),
        "prompt_loose": rate_of(verdict.details["loose_passed"] for verdict in judged),
        "instruction_strict": rate_of(v for verdict in judged for v in verdict.details["strict"]),
        "instruction_loose": rate_of(v for verdict in judged for v in verdict.details["loose"]),
    }
