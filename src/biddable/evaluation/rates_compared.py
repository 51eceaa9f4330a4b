"""Test the rates that a comparison does not turn on: mimicry, right answers, refusals and the rest.

Each is paired by item and tested as the figure of the verdict is. As they are many, and nobody said
beforehand which one matters, all are corrected together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from biddable.counting import counted
from biddable.evaluation.pairing import REFUSING, p_of_both, pairs_by
from biddable.evaluation.runner import Outcome
from biddable.evaluation.scores import RATES
from biddable.evaluation.statistics import ALPHA, holm
from biddable.evaluation.terminal import FIGURES, RARE, shown_p

TESTED = (
    "answer_correct",
    "mimicry",
    "run_on",
    "stopped",
    "refusal_harmful",
    "refusal_benign",
    "refusal_lookalike",
    "refusal_partial",
    "empty",
    "repetition",
    "wrong_language",
)
_OF_A_KIND = ("refusal_harmful", "refusal_benign", "refusal_lookalike")
_LABELS = dict((*FIGURES, *RARE))


def compare_rates(
    before: Sequence[Outcome], after: Sequence[Outcome], *, figure: str | None
) -> dict[str, dict[str, Any]]:
    """Test each rate between two sides.

    Args:
        before: of the first side.
        after: of the second.
        figure: what the verdict turns on; refusals by kind are its own matter if it is theirs.

    Returns:
        By the rate's name ``{"n", "before", "after", "rose", "fell", "p", "p_holm"}``: the shares
        of the items that both sides tell it of, the larger p-value of the exact test over items and
        over clusters, and that corrected for the number of rates (Holm). Where all harmless items
        are look-alikes, their refusals are one rate, ``refusal_lookalike``.
    """
    names = [name for name in TESTED if figure != REFUSING or name not in _OF_A_KIND]
    tested = {name: pairs_by(RATES[name], before, after) for name in names}
    if tested.get("refusal_benign") == tested.get("refusal_lookalike"):
        tested.pop("refusal_benign", None)  # all harmless items are look-alikes: one test
    found = {}
    for name, pairs in tested.items():
        if pairs:
            gains = [pair.after - pair.before for pair in pairs]
            answers = sum(pair.answers for pair in pairs)
            found[name] = {
                "n": len(pairs),
                "before": sum(pair.before for pair in pairs) / answers,
                "after": sum(pair.after for pair in pairs) / answers,
                "rose": sum(gain > 0 for gain in gains),
                "fell": sum(gain < 0 for gain in gains),
                "p": p_of_both(pairs),
            }
    corrected = holm({name: facts["p"] for name, facts in found.items()})
    return {name: facts | {"p_holm": corrected[name]} for name, facts in found.items()}


def rates_in_a_sentence(comparison: Mapping[str, Any]) -> str:
    """Say which rates beside the verdict's, if it has one, differ; empty where none was tested.

    Example:
        >>> rates = {"mimicry": {"before": 0.8, "after": 0.0, "p_holm": 1e-9}}
        >>> rates |= {"run_on": {"before": 0.1, "after": 0.05, "p_holm": 0.4}}
        >>> for part in rates_in_a_sentence({"rates_compared": rates}).split(": "):
        ...     print(part)
        Of 2 rates, corrected for as many tests (Holm), 1 is proven to differ
        mimicry 80.0 to 0.0 % (p < 1e-9).
    """
    rates = comparison.get("rates_compared") or {}
    if not rates:
        return ""
    proven = [
        f"{_LABELS[name]} {100 * facts['before']:.1f} to {100 * facts['after']:.1f} %"
        f" ({shown_p(facts['p_holm'])})"
        for name, facts in rates.items()
        if facts["p_holm"] <= ALPHA
    ]
    tested = counted(len(rates), "other rate" if comparison.get("statistics") else "rate")
    told = f"Of {tested}, corrected for as many tests (Holm),"
    if not proven:
        return f"{told} none is proven to differ."
    verb = "is" if len(proven) == 1 else "are"
    return f"{told} {len(proven)} {verb} proven to differ: {', '.join(proven)}."
