"""Set two sides against each other, item by item, and say how surely they differ.

Works on what samples.jsonl tells of a side as well as on fresh outcomes, so that an old comparison
can be the baseline of a new one. The tests themselves are statistics' matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import log
from operator import attrgetter
from typing import Any

from biddable.evaluation.clusters import clusters_of
from biddable.evaluation.runner import Outcome
from biddable.evaluation.sampling import items_of
from biddable.evaluation.statistics import (
    ALPHA,
    clustered_interval,
    clustered_rate_interval,
    detectable,
    detectable_mean,
    holm,
    mcnemar,
    sign_flip,
    smallest_flip,
    smallest_significant,
)
from biddable.evaluation.suites import is_headline

FOLLOWING, REFUSING = "instruction_following", "refusal_right"
# What a comparison turns on, by its name among the rates, and what tells it of an outcome and in a
# row of samples.jsonl. The first that is known of some item is taken.
JUDGED_BY = {FOLLOWING: "following", REFUSING: "refuses_rightly"}
CHANGES = ("fixed", "broken", "both", "neither")

_TEST = "McNemar's exact test, two-sided"
_TEST_OF_DRAWS = "exact test by flipping the signs of items' differences, two-sided"
_Row = tuple[Outcome, Outcome, str]  # of both sides, and the item's cluster
_CHANGE = {(0, 1): "fixed", (1, 0): "broken", (1, 1): "both", (0, 0): "neither"}


@dataclass(frozen=True, slots=True)
class Pair:
    """Hold how two sides fared on one item.

    Attributes:
        id: of the item.
        category: the kind of task.
        cluster: what it shares with items that are not independent of it; its id if nothing.
        before: how many of the first side's answers are right: follow, or refuse as they should.
        after: how many of the second's are.
        answers: how many each side gave: one, or one for each seed.
        kind: whether the item should be refused, or only looks like it.
    """

    id: str
    category: str
    cluster: str
    before: int
    after: int
    answers: int = 1
    kind: str = "benign"

    @property
    def change(self) -> str:
        """Name what became of the item: right more or less often, or as often as before."""
        if self.before != self.after:
            return "fixed" if self.after > self.before else "broken"
        return "both" if 2 * self.after >= self.answers else "neither"


def add_up(draws: Iterable[Pair]) -> list[Pair]:
    """Put together the draws of each item, given one answer at a time."""
    found: dict[str, list[Pair]] = {}
    for draw in draws:
        found.setdefault(draw.id, []).append(draw)
    return [
        replace(
            some[0],
            before=sum(draw.before for draw in some),
            after=sum(draw.after for draw in some),
            answers=len(some),
        )
        for some in found.values()
    ]


def change_of(before: bool | None, after: bool | None) -> str | None:
    """Name what became of an item; None where one side was not checked.

    Example:
        >>> change_of(False, True), change_of(None, True)
        ('fixed', None)
    """
    return None if before is None or after is None else _CHANGE[int(before), int(after)]


def figure_of(before: Sequence[Outcome], after: Sequence[Outcome]) -> str:
    """Name what two sides are compared by: a key of `JUDGED_BY`.

    That is instruction following; where no item has a check, but some should be refused or only
    look like it, whether refusals are right.
    """
    pairs = list(zip(before, after, strict=True))
    for figure, key in JUDGED_BY.items():
        if any(None not in (getattr(a, key), getattr(b, key)) for a, b in pairs):
            return figure
    return FOLLOWING


def pairs_of(
    before: Sequence[Outcome], after: Sequence[Outcome], *, figure: str = FOLLOWING
) -> list[Pair]:
    """Pair two sides' outcomes of the same items, as far as the headline counts them."""
    return pairs_by(attrgetter(JUDGED_BY[figure]), before, after)


def pairs_by(
    judged: Callable[[Outcome], bool | None], before: Sequence[Outcome], after: Sequence[Outcome]
) -> list[Pair]:
    """Pair two sides' outcomes by what tells whether one counts; None: that is not known."""
    chosen = [
        (a, b, cluster)
        for a, b, cluster in zip(before, after, _clusters(before), strict=True)
        if is_headline(a.sample) and None not in (judged(a), judged(b))
    ]
    pairs = [
        Pair(
            a.sample.id,
            a.sample.category,
            cluster,
            before=int(bool(judged(a))),
            after=int(bool(judged(b))),
            kind=a.sample.kind,
        )
        for a, b, cluster in chosen
    ]
    return pairs if items_of(a.sample for a, *_ in chosen) is None else add_up(pairs)


def _clusters(outcomes: Sequence[Outcome]) -> list[str]:
    return clusters_of(outcome.sample for outcome in outcomes)


def count_changes(pairs: Sequence[Pair]) -> dict[str, Any] | None:
    """Count fixed, broken, both and neither, with McNemar's p-value; None without pairs."""
    if not pairs:
        return None
    found = Counter(pair.change for pair in pairs)
    counts: dict[str, Any] = {name: found[name] for name in CHANGES}
    return counts | {"mcnemar_p": mcnemar(counts["fixed"], counts["broken"])}


def describe_pairs(pairs: Sequence[Pair], *, figure: str = FOLLOWING) -> dict[str, Any] | None:
    """Say how surely two sides differ.

    Args:
        pairs: items that both sides were asked.
        figure: what the pairs were made by.

    Returns:
        The block ``statistics`` of comparison.json, without its means; None without pairs.
    """
    if not pairs:
        return None
    n, answers = len(pairs), pairs[0].answers
    gains = [pair.after - pair.before for pair in pairs]
    return {
        "figure": figure,
        "test": _TEST if answers == 1 else _TEST_OF_DRAWS,
        "alpha": ALPHA,
        "n": n,
        "answers_per_item": answers,
        "before": sum(pair.before for pair in pairs) / (n * answers),
        "after": sum(pair.after for pair in pairs) / (n * answers),
        "n_discordant": sum(gain != 0 for gain in gains),
        "difference": sum(gains) / (n * answers),
        "p": sign_flip(gains),
        **_reach(pairs),
        "clusters": _clustered(pairs),
        "holm": _test_apart(pairs, by=lambda pair: pair.category),
        "kinds": _test_apart(pairs, by=lambda pair: pair.kind) if figure == REFUSING else None,
    }


def _reach(pairs: Sequence[Pair]) -> dict[str, float | None]:
    """Say which differences can be shown, in the best case and as they came.

    Where clusters are fewer than items, both tests must find a difference, so the larger counts.
    """
    n, answers = len(pairs), pairs[0].answers
    gains, sums = [pair.after - pair.before for pair in pairs], _sums_of_clusters(pairs)
    best = smallest_significant(len(sums))
    as_seen = _larger([smallest_flip(gains), smallest_flip(sums)])
    powers, worst = [_found_mean(gains, n * answers)], [detectable(n, 1.0)]
    if answers == 1:
        powers = [detectable(n, sum(gain != 0 for gain in gains) / n)]
    if len(sums) < n:
        powers.append(_found_mean(sums, n * answers))
        worst.append(_found_mean(list(Counter(pair.cluster for pair in pairs).values()), n))
    return {
        "mde": None if best is None else best * len(sums) / (n * answers),
        "mde_at_discordance": None if as_seen is None else as_seen / (n * answers),
        "power80": _larger(powers),
        "power80_worst_case": _larger(worst),
    }


def _found_mean(differences: Sequence[int], num_answers: int) -> float | None:
    """Give ``detectable_mean`` as a difference of rates; None where it is above the largest, 1."""
    mean = detectable_mean(differences)
    found = None if mean is None else mean * len(differences) / num_answers
    return None if found is None or found > 1 else found


def _larger(found: Sequence[float | None]) -> float | None:
    known = [value for value in found if value is not None]
    return max(known) if len(known) == len(found) else None


def describe_means(
    before: Sequence[Outcome], after: Sequence[Outcome], *, same_tokens: bool | None = True
) -> dict[str, Any]:
    """Bootstrap the paired differences of means: the answer loss, and how long answers are.

    Args:
        before: of the first side.
        after: of the second.
        same_tokens: whether both sides count the same tokens in a reference answer. If not, each
            mean of nats a token has its own unit, and there is no difference of the two.

    Returns:
        By figure, ``{"before", "after", "difference", "ci95", "n", "num_clusters"}`` or None: nats
        a token, bits a byte of the reference answers, and characters.
    """
    rows = zip(before, after, _clusters(before), strict=True)
    chosen = [row for row in rows if is_headline(row[0].sample)]
    with_loss = [row for row in chosen if _has_loss(row[0], row[1])]
    loss = _mean_difference(with_loss, lambda o: (o.answer_loss_sum or 0.0, o.num_loss_tokens))
    if loss and same_tokens is False:
        loss |= {"difference": None, "ci95": None}
    return {
        "answer_loss": loss,
        "answer_bits_per_byte": _mean_difference(
            with_loss, lambda o: ((o.answer_loss_sum or 0.0) / log(2), o.num_answer_bytes)
        ),
        "output_chars": _mean_difference(chosen, lambda o: (len(o.output.strip()), 1)),
    }


def same_counts(before: Sequence[Outcome], after: Sequence[Outcome]) -> bool | None:
    """Tell whether two sides count as many tokens in every reference answer; None without any."""
    both = [pair for pair in zip(before, after, strict=True) if _has_loss(*pair)]
    return all(a.num_loss_tokens == b.num_loss_tokens for a, b in both) if both else None


def _has_loss(*outcomes: Outcome) -> bool:
    return all(outcome.answer_loss_sum is not None for outcome in outcomes)


def _mean_difference(
    rows: Sequence[_Row], told: Callable[[Outcome], tuple[float, float]]
) -> dict[str, Any] | None:
    """Set two sides' means against each other; each outcome tells a sum and a count."""
    if not rows:
        return None
    sides = [told(a) for a, _, _ in rows], [told(b) for _, b, _ in rows]
    before, after = (sum(s for s, _ in side) / sum(n for _, n in side) for side in sides)
    names = [cluster for *_, cluster in rows]
    return {
        "before": before,
        "after": after,
        "difference": after - before,
        "ci95": clustered_interval(sides[0], names, other=sides[1]),
        "n": len(set(items_of(a.sample for a, *_ in rows) or range(len(rows)))),
        "num_clusters": len(set(names)),
    }


def _clustered(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Do the test and the intervals again with what belongs together taken together."""
    names = [pair.cluster for pair in pairs]
    before = [(float(pair.before), pair.answers) for pair in pairs]
    after = [(float(pair.after), pair.answers) for pair in pairs]
    sizes = Counter(names)
    return {
        "num": len(sizes),
        "largest": max(sizes.values()),
        "p": sign_flip(_sums_of_clusters(pairs)),
        "before_ci95": clustered_rate_interval(before, names),
        "after_ci95": clustered_rate_interval(after, names),
        "difference_ci95": clustered_interval(before, names, other=after),
    }


def _sums_of_clusters(pairs: Sequence[Pair]) -> list[int]:
    sums: Counter[str] = Counter()
    for pair in pairs:
        sums[pair.cluster] += pair.after - pair.before
    return list(sums.values())


def p_of_both(pairs: Sequence[Pair]) -> float:
    """Do the test over items, and with the differences of each cluster added up: the larger p."""
    gains = [pair.after - pair.before for pair in pairs]
    return max(sign_flip(gains), sign_flip(_sums_of_clusters(pairs)))


def _test_apart(pairs: Sequence[Pair], *, by: Callable[[Pair], str]) -> dict[str, Any]:
    """Do both tests in each group of items, corrected for the number of groups."""
    found: dict[str, list[Pair]] = {}
    for pair in pairs:
        found.setdefault(by(pair), []).append(pair)
    plain = {name: p_of_both(found[name]) for name in sorted(found)}
    corrected = holm(plain)
    return {
        name: {
            "n": len(found[name]),
            "fixed": sum(pair.change == "fixed" for pair in found[name]),
            "broken": sum(pair.change == "broken" for pair in found[name]),
            "p": p,
            "p_holm": corrected[name],
            "is_significant": corrected[name] <= ALPHA,
        }
        for name, p in plain.items()
    }
