"""Say in a sentence what a comparison found, for the page and for the texts alike.

Claims no more than its tests show; what was not measured is said as plainly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from biddable.counting import counted
from biddable.evaluation.loss_words import loss_in_a_sentence
from biddable.evaluation.pairing import FOLLOWING, REFUSING
from biddable.evaluation.side_names import names_of
from biddable.evaluation.statistics import ALPHA
from biddable.evaluation.terminal import (
    asked_items,
    changes_in_words,
    does_right,
    kinds_in_a_sentence,
)

Comparison = Mapping[str, Any]
Tone = Literal["better", "worse", "unproven", "none"]

_ASKED_TO_REFUSE = (
    ("refusal_harmful", "harmful items"),
    ("refusal_lookalike", "harmless look-alikes"),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Hold the comparison in a sentence.

    Attributes:
        tone: ``better`` and ``worse`` only where chance does not explain it; ``none`` where nothing
            was measured that could decide.
        headline: for everybody.
        detail: with the counts and the test; empty where there are none.
    """

    tone: Tone
    headline: str
    detail: str


def verdict_of(comparison: Comparison) -> Verdict:
    """Say in a sentence whether the instruct model follows, or refuses, better than its base.

    A difference counts as one where both the plain test and the one over clusters reject chance.
    """
    block, paired = comparison.get("statistics"), comparison.get("paired")
    if not comparison["n"]:
        return Verdict("none", "Nothing was compared: the suite has no items.", "")
    if not block or not paired:
        known = loss_in_a_sentence(comparison)
        unknown, advice = _not_told(comparison)
        if not known:
            detail = " ".join(part for part in (advice, _of_mimicry(comparison)) if part)
            return Verdict("none", f"No verdict: {unknown[0].lower()}{unknown[1:]}.", detail)
        parts = (f"{unknown}.", advice, _of_mimicry(comparison))
        return Verdict("none", known, " ".join(part for part in parts if part))
    tone, found = _how_surely(block)
    items, changes = asked_items(block), f"{changes_in_words(block, paired)}."
    if block["figure"] == REFUSING:
        shares = [f"{100 * block[side]:.1f} %" for side in ("before", "after")]
        detail = (
            f"It is right (harmful ones refused, and no others) about {shares[1]} of {items},"
            f" before {shares[0]}: {changes} {kinds_in_a_sentence(block)}"
        )
        detail = " ".join(filter(None, (detail.rstrip(), _of_mimicry(comparison))))
        return Verdict(tone, f"{_of_refusals(comparison)}: {found}.", detail)
    base, instruct = names_of(comparison)
    before, after = (100 * comparison[side][FOLLOWING]["rate"] for side in ("base", "instruct"))
    opening = f"{instruct} follows {after:.1f} % of the instructions, {base} {before:.1f} %"
    return Verdict(
        tone, f"{opening}: {found}.", f"Of {items}: {changes}"
    )  # the headline has the rates


def _not_told(comparison: Comparison) -> tuple[str, str]:
    """Say why right and wrong are not told, and what to do about it."""
    unanswered = [comparison[side]["by_ring"].get("unanswered") for side in ("base", "instruct")]
    if not all(unanswered):
        n = comparison["n"]
        none = "The only item has no" if n == 1 else f"None of the {n:,} items has a"
        return (
            f"{none} check that both sides were judged by, so right and wrong are not told",
            'Give items a "check" to have answers judged (docs/checks.md of biddable).',
        )
    n, (base, instruct) = unanswered[0]["n"], names_of(comparison)
    before, after = (f"{100 * rate['rate']:.1f} %" for rate in unanswered)
    checked = "The only item with a check is" if n == 1 else f"All {n:,} items with a check are"
    return (
        f"{checked} of the ring unanswered, which no verdict counts",
        f"{instruct} follows {after} of {counted(n, 'item')}, {base} {before}; that is not tested."
        ' Leave "ring" out of items that are to count.',
    )


def _how_surely(block: Mapping[str, Any]) -> tuple[Tone, str]:
    """Say whether chance explains a difference; one for the better may hide one for the worse."""
    kinds = (block.get("kinds") or {}).values()
    ways = {facts["fixed"] > facts["broken"] for facts in kinds if facts["is_significant"]}
    if len(ways) == 2:
        return "unproven", "a gain in one and a loss in the other that chance does not explain"
    if max(block["p"], block["clusters"]["p"]) > ALPHA:
        return "unproven", "no difference is proven"
    if block["difference"] > 0:
        return "better", "a gain that chance does not explain"
    return "worse", "a loss that chance does not explain"


def _of_refusals(comparison: Comparison) -> str:
    """Say how much of each kind both sides refuse."""
    shares: dict[str, list[str]] = {"base": [], "instruct": []}
    for key, items in _ASKED_TO_REFUSE:
        rates = {side: comparison[side].get(key) for side in shares}
        if all(rates.values()):
            told = {side: f"{100 * rate['rate']:.1f} %" for side, rate in rates.items()}
            shares["base"].append(told["base"])
            shares["instruct"].append(f"{told['instruct']} of the {items}")
    base, instruct = names_of(comparison)
    before, after = (" and ".join(found) for found in shares.values())
    return f"{instruct} refuses {after}, {base} {before}"


def _of_mimicry(comparison: Comparison) -> str:
    before, after = (comparison[side].get("mimicry") for side in ("base", "instruct"))
    if not before or not after or not (before["rate"] or after["rate"]):
        return ""
    told = [f"{100 * rate['rate']:.1f} %" for rate in (before, after)]
    return f"The base mimicked {told[0]} of the prompts, the instruct model {told[1]}."


def best_prompted(comparison: Comparison) -> str:
    """Say what the base reaches with its best other prompt: the gain that is not the prompt's.

    Returns:
        A sentence; empty where the base was asked in one form only.
    """
    block = comparison.get("statistics") or {"figure": FOLLOWING}
    rates = {
        words: (comparison.get(key) or {}).get(block["figure"])
        for key, words in (
            ("base_templated", "in the template"),
            ("base_fewshot", "with three examples before each item"),
        )
    }
    known = {words: rate for words, rate in rates.items() if rate}
    if not known:
        return ""
    words = max(known, key=lambda name: known[name]["rate"])
    return f"Asked {words}, the base {does_right(block)} {100 * known[words]['rate']:.1f} %."
