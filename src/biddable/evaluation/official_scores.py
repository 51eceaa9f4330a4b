"""Count a suite the way its makers publish it, beside our own figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from biddable.evaluation.runner import Outcome
from biddable.evaluation.statistics import rate_of


def official_scores(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Give IFEval's four accuracies, and full refusals by category where refusing is at stake.

    Prompts count as followed when all of their instructions are; "loose" also tries the response
    without its first or last line or its asterisks (Zhou et al. 2023, arXiv 2311.07911).

    Args:
        outcomes: of one model in one prompt form.

    Returns:
        Rates by name; a suite that has neither gives none.
    """
    found: dict[str, Any] = {}
    details = [
        outcome.verdict.details
        for outcome in outcomes
        if (outcome.sample.check or {}).get("kind") == "ifeval"
        and outcome.verdict
        and outcome.verdict.details
    ]
    if details:
        found |= {
            "prompt_strict": rate_of(all(entry["strict"]) for entry in details),
            "prompt_loose": rate_of(all(entry["loose"]) for entry in details),
            "instruction_strict": rate_of(one for entry in details for one in entry["strict"]),
            "instruction_loose": rate_of(one for entry in details for one in entry["loose"]),
        }
    if any(outcome.sample.kind != "benign" for outcome in outcomes):
        names = sorted({outcome.sample.category for outcome in outcomes})
        found["refusal_by_category"] = {
            name: rate_of(
                o.behaviour.refusal == "full" for o in outcomes if o.sample.category == name
            )
            for name in names
        }
    return found
