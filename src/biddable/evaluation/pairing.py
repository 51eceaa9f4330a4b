"""Set two sides against each other, item by item, and say how surely they differ.

Works on what samples.jsonl tells of a side as well as on fresh outcomes, so that an old comparison
can be the baseline of a new one. The tests themselves are statistics' matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from biddable.evaluation.runner import Outcome
from biddable.evaluation.statistics import (
    ALPHA,
    clustered_interval,
    detectable,
    holm,
    mcnemar,
    sign_flip,
    smallest_significant,
)
from biddable.evaluation.suites import is_headline

CHANGES = ("fixed", "broken", "both", "neither")

_CHANGE = {(0, 1): "fixed", (1, 0): "broken", (1, 1): "both", (0, 0): "neither"}


@dataclass(frozen=True, slots=True)
class Pair:
    """Hold how two sides fared on one item.

    Attributes:
        id: of the item.
        category: the kind of task.
        cluster: what it shares with items that are not independent of it; its id if nothing.
        before: whether the first side follows.
        after: whether the second does.
    """

    id: str
    category: str
    cluster: str
    before: bool
    after: bool

    @property
    def change(self) -> str:
        """Name what became of the item."""
        return _CHANGE[int(self.before), int(self.after)]


def change_of(before: bool | None, after: bool | None) -> str | None:
    """Name what became of an item; None where one side was not checked.

    Example:
        >>> change_of(False, True), change_of(None, True)
        ('fixed', None)
    """
    return None if before is None or after is None else _CHANGE[int(before), int(after)]


def pairs_of(before: Sequence[Outcome], after: Sequence[Outcome]) -> list[Pair]:
    """Pair two sides' outcomes of the same items, as far as the headline counts them."""
    return [
        Pair(a.sample.id, a.sample.category, cluster_of(a), a.following, b.following)
        for a, b in zip(before, after, strict=True)
        if is_headline(a.sample) and a.following is not None and b.following is not None
    ]


def cluster_of(outcome: Outcome) -> str:
    """Name the cluster of an item: what it is about, or the item itself."""
    entity = outcome.sample.entity
    return f"entity {entity}" if entity else f"item {outcome.sample.id}"


def count_changes(pairs: Sequence[Pair]) -> dict[str, Any] | None:
    """Count fixed, broken, both and neither, with McNemar's p-value; None without pairs."""
    if not pairs:
        return None
    found = Counter(pair.change for pair in pairs)
    counts: dict[str, Any] = {name: found[name] for name in CHANGES}
    return counts | {"mcnemar_p": mcnemar(counts["fixed"], counts["broken"])}


def describe_pairs(pairs: Sequence[Pair]) -> dict[str, Any] | None:
    """Say how surely two sides differ in instruction following.

    Args:
        pairs: items that both sides were asked.

    Returns:
        The block ``statistics`` of comparison.json, without its means; None without pairs.
    """
    if not pairs:
        return None
    n = len(pairs)
    kinds = Counter(pair.change for pair in pairs)
    fixed, broken = kinds["fixed"], kinds["broken"]
    return {
        "figure": "instruction_following",
        "test": "McNemar's exact test, two-sided",
        "alpha": ALPHA,
        "n": n,
        "n_discordant": fixed + broken,
        "difference": (fixed - broken) / n,
        "p": mcnemar(fixed, broken),
        "mde": smallest_significant(n),
        "mde_at_discordance": smallest_significant(n, fixed + broken),
        "power80": detectable(n, (fixed + broken) / n),
        "power80_worst_case": detectable(n, 1.0),
        "clusters": _clustered(pairs),
        "holm": _by_category(pairs),
    }


def describe_means(before: Sequence[Outcome], after: Sequence[Outcome]) -> dict[str, Any]:
    """Bootstrap the paired differences of means: the answer loss, and how long answers are.

    Returns:
        By figure, ``{"difference", "ci95", "n"}`` or None; nats a token, and characters.
    """
    chosen = [(a, b) for a, b in zip(before, after, strict=True) if is_headline(a.sample)]
    with_loss = [
        (a, b) for a, b in chosen if a.answer_loss_sum is not None and b.answer_loss_sum is not None
    ]

    def losses(k: int) -> list[tuple[float, float]]:
        return [(pair[k].answer_loss_sum or 0.0, pair[k].num_loss_tokens) for pair in with_loss]

    def lengths(k: int) -> list[tuple[float, float]]:
        return [(len(pair[k].output.strip()), 1) for pair in chosen]

    return {
        "answer_loss": _mean_difference(
            losses(0), losses(1), [cluster_of(a) for a, _ in with_loss]
        ),
        "output_chars": _mean_difference(
            lengths(0), lengths(1), [cluster_of(a) for a, _ in chosen]
        ),
    }


def _mean_difference(
    before: Sequence[tuple[float, float]],
    after: Sequence[tuple[float, float]],
    clusters: Sequence[str],
) -> dict[str, Any] | None:
    if not before:
        return None
    means = [sum(s for s, _ in side) / sum(n for _, n in side) for side in (before, after)]
    interval = clustered_interval(before, clusters, other=after)
    return {"difference": means[1] - means[0], "ci95": interval, "n": len(before)}


def _clustered(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Do the test and the intervals again with what belongs together taken together."""
    names = [pair.cluster for pair in pairs]
    sums: Counter[str] = Counter()
    for pair in pairs:
        sums[pair.cluster] += int(pair.after) - int(pair.before)
    before = [(float(pair.before), 1.0) for pair in pairs]
    after = [(float(pair.after), 1.0) for pair in pairs]
    sizes = Counter(names)
    return {
        "num": len(sizes),
        "largest": max(sizes.values()),
        "p": sign_flip(sums[name] for name in sizes),
        "before_ci95": clustered_interval(before, names),
        "after_ci95": clustered_interval(after, names),
        "difference_ci95": clustered_interval(before, names, other=after),
    }


def _by_category(pairs: Sequence[Pair]) -> dict[str, Any]:
    found: dict[str, Counter[str]] = {}
    for pair in pairs:
        found.setdefault(pair.category, Counter())[pair.change] += 1
    plain = {name: mcnemar(c["fixed"], c["broken"]) for name, c in sorted(found.items())}
    corrected = holm(plain)
    return {
        name: {
            "n": found[name].total(),
            "fixed": found[name]["fixed"],
            "broken": found[name]["broken"],
            "p": plain[name],
            "p_holm": corrected[name],
            "is_significant": corrected[name] <= ALPHA,
        }
        for name in plain
    }
