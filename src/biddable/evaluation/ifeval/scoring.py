"""Count verdicts into IFEval's four accuracies."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from biddable.evaluation.checks import Verdict
from biddable.evaluation.statistics import Rate, rate_of


def ifeval_scores(
    verdicts: Iterable[Verdict | None],
    items: Iterable[Hashable] | None = None,
    *,
    clusters: Iterable[Hashable] | None = None,
) -> dict[str, Rate | None]:
    """Give the accuracies by prompt and by instruction, strict and loose, as IFEval defines them.

    Args:
        verdicts: of a suite; those of other checks do not count.
        items: which item each is of, where items were answered several times.
        clusters: which cluster each item is in; instructions of one prompt are of one cluster.

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
    given = list(verdicts)
    names = list(range(len(given)) if items is None else items)
    groups = dict(zip(names, names if clusters is None else clusters, strict=True))
    judged = [(name, v) for name, v in zip(names, given, strict=True) if v and v.details]
    if not judged:
        return {}
    prompts = [name for name, _ in judged]

    def by_prompt(passed: Iterable[bool]) -> Rate | None:
        return rate_of(passed, prompts, clusters=[groups[name] for name in prompts])

    def by_instruction(kind: str) -> Rate | None:
        found = [
            ((name, k), passed)
            for name, verdict in judged
            for k, passed in enumerate(verdict.details[kind])
        ]
        each = [one for one, _ in found]
        passed = [passed for _, passed in found]
        return rate_of(passed, each, clusters=[groups[name] for name, _ in each])

    return {
        "prompt_strict": by_prompt(v.passed for _, v in judged),
        "prompt_loose": by_prompt(v.details["loose_passed"] for _, v in judged),
        "instruction_strict": by_instruction("strict"),
        "instruction_loose": by_instruction("loose"),
    }
