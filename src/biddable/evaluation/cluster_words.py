"""Say what intervals become where items that belong together are drawn together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from biddable.counting import counted
from biddable.evaluation.pairing import FOLLOWING
from biddable.evaluation.statistics import ALPHA

Rated = Mapping[str, Any] | None


def clusters_heading(rates: Iterable[Rated]) -> str:
    """Head the intervals over clusters of some rates; empty where each item is its own.

    Args:
        rates: as `rate_of` gives them; they need not be of the same items.

    Example:
        >>> rates = [{"rate": 1}, {"rate": 1, "num_clusters": 9}, {"rate": 1, "num_clusters": 4}]
        >>> clusters_heading(rates), clusters_heading(rates[:2]), clusters_heading([rates[0], None])
        ('over 4 to 9 clusters', 'over 9 clusters', '')
    """
    known = {rate["num_clusters"] for rate in rates if rate and "num_clusters" in rate}
    if not known:
        return ""
    least = f"{min(known):,} to " if len(known) > 1 else ""
    return f"over {least}{counted(max(known), 'cluster')}"


def over_clusters(rate: Rated) -> str:
    """Show the interval over clusters alone, as it stands below or beside Wilson's.

    Example:
        >>> over_clusters({"rate": 0.5, "clustered_ci95": [0.31, 0.688]}), over_clusters(None)
        ('(31-69)', '-')
    """
    if not rate or "clustered_ci95" not in rate:
        return "-"
    low, high = rate["clustered_ci95"]
    return f"({100 * low:.0f}-{100 * high:.0f})"


def compared_figure(comparison: Mapping[str, Any]) -> str:
    """Name the figure whose intervals over clusters a narrow table shows: what it turns on."""
    block = comparison.get("statistics")
    return str(block.get("figure", FOLLOWING)) if block else "mimicry"


def clusters_in_a_sentence(block: Mapping[str, Any]) -> str:
    """Say what belongs together, and how sure the difference is over clusters; else empty.

    Args:
        block: ``statistics`` of comparison.json.

    Example:
        >>> clusters = {"num": 2, "p": 0.5, "difference_ci95": [-0.05, 0.45]}
        >>> block = {"n": 9, "difference": 0.2, "clusters": clusters}
        >>> for part in clusters_in_a_sentence(block).split("; "):
        ...     print(part)
        Items that share an entity, a document or a conversation are one cluster
        over 2 clusters the 95 % interval of the difference, +20.0 points, is -5.0 to +45.0.
    """
    clusters = block["clusters"]
    if clusters["num"] >= block["n"]:
        return ""
    told = "Items that share an entity, a document or a conversation are one cluster"
    low, high = clusters.get("difference_ci95") or (0.0, 0.0)
    if low == high:  # one cluster, or clusters that are all alike, show no spread
        return f"{told}."
    points = " to ".join(f"{100 * bound:+.1f}" for bound in (low, high))
    # the test is exact whatever their number, and a percentile interval of few is not
    is_narrow = not low <= 0 <= high and clusters["p"] > ALPHA
    return (
        f"{told}; over {counted(clusters['num'], 'cluster')} the 95 % interval of the difference,"
        f" {100 * block['difference']:+.1f} points, is {points}"
        f"{' (of so few too narrow: the test goes before it)' if is_narrow else ''}."
    )
