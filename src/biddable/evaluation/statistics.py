"""Turn counts into rates with intervals, and say how surely two models differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binom, binomtest, bootstrap, norm, t
from statsmodels.stats.proportion import proportion_confint

from biddable.errors import EvaluationError

ALPHA = 0.05
Rate = dict[str, object]
_NUM_DRAWS = 2000
_NO_SPREAD = 1e-12  # of rates that are sums of thirds and the like


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


def rate_of(
    values: Iterable[bool | None],
    items: Iterable[Hashable] | None = None,
    *,
    clusters: Iterable[Hashable] | None = None,
) -> Rate | None:
    """Give the share of those that are true, leaving out what is not known.

    Args:
        values: whether it is so; None where that is not known.
        items: which item each value is of, where items were answered several times. The share is
            then the mean over items of the mean over their answers, ``n`` counts items, and the
            interval is that of ``wilson_of_shares``. None: each is an item of its own.
        clusters: which cluster each value's item is in. Where they are fewer than items, the rate
            has ``num_clusters`` and ``clustered_ci95`` as well. None: nothing is known of them.

    Example:
        >>> rate_of([True, None, False])["rate"]
        0.5
        >>> found = rate_of([True, True, False, False], ["a", "a", "a", "b"])
        >>> round(found["rate"], 3), found["n"], found["answers"]
        (0.333, 2, 4)
    """
    given = list(values)
    names = list(range(len(given)) if items is None else items)
    groups = dict(zip(names, names if clusters is None else clusters, strict=True))
    answers: dict[Hashable, list[bool]] = {}
    for item, value in zip(names, given, strict=True):
        if value is not None:
            answers.setdefault(item, []).append(value)
    num_answers = sum(map(len, answers.values()))
    shares = [sum(found) / len(found) for found in answers.values()]
    if num_answers == len(answers):
        found = rate(sum(map(sum, answers.values())), num_answers)
    else:
        mean, interval = float(np.mean(shares)), wilson_of_shares(shares, num_answers)
        found = {"rate": mean, "ci95": interval, "n": len(shares), "answers": num_answers}
    own = [groups[item] for item in answers]
    if found is None or len(set(own)) == len(answers):
        return found
    interval = clustered_rate_interval([(share, 1.0) for share in shares], own)
    return {**found, "num_clusters": len(set(own)), "clustered_ci95": interval}


def wilson_of_shares(shares: Sequence[float], num_answers: int) -> list[float]:
    """Give the 95 % interval of the mean of items' shares, each over an item's several answers.

    Answers to one item are no independent trials. Wilson's formula is told as many trials as would
    vary as much as the items' shares do, at least one an item and at most one an answer, and
    fewer where items are too few to know that. Korn and Graubard, Confidence Intervals for
    Proportions With Small Expected Number of Positive Counts, 1998; for Wilson's formula Franco,
    Little, Louis and Slud, Comparative Study of Confidence Intervals for Proportions in Complex
    Sample Surveys, 2019.

    Args:
        shares: of each item, from 0 to 1; at least one.
        num_answers: to all items together.

    Returns:
        Lower and upper bound.

    Example:
        >>> [round(bound, 2) for bound in wilson_of_shares([0.0, 1.0] * 20, 120)]
        [0.35, 0.65]
        >>> [round(bound, 2) for bound in wilson_of_shares([1 / 3, 2 / 3] * 20, 120)]
        [0.41, 0.59]
    """
    n, mean = len(shares), float(np.mean(shares))
    spread = float(np.var(shares, ddof=1)) / n if n > 1 else 0.0
    trials = mean * (1 - mean) / spread if spread > 0 else num_answers
    if not 0 < mean < 1 or n == 1:
        trials = n  # no spread was seen, which does not say that there is none
    unsure = (norm.ppf(1 - ALPHA / 2) / t.ppf(1 - ALPHA / 2, n - 1)) ** 2 if n > 1 else 1.0
    trials = min(max(trials, n), num_answers) * unsure
    low, high = proportion_confint(mean * trials, trials, alpha=ALPHA, method="wilson")
    return [max(0.0, float(low)), min(1.0, float(high))]


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


def sign_flip(differences: Iterable[int]) -> float:
    """Give the exact p-value that differences of pairs are as likely to have either sign.

    All ways to flip the signs are counted, not drawn. With differences of -1, 0 and 1 it is
    McNemar's exact test; with sums over clusters, or over seeds, it stays exact where McNemar's
    would take what belongs together for independent. Fisher, The Design of Experiments, 1935, 21.

    Args:
        differences: after minus before, as whole numbers: of items, of clusters, or of items
            summed over seeds.

    Returns:
        Two-sided p-value.

    Example:
        >>> round(sign_flip([1, 1, 1, 1, 1, 0, 0]), 6), sign_flip([5])
        (0.0625, 1.0)
    """
    given = list(differences)
    chances = _chances_of_flips(given)
    flipped = sum(-d for d in given if d < 0)
    least = min(flipped, len(chances) - 1 - flipped)
    return min(1.0, 2.0 * float(chances[: least + 1].sum()))


def smallest_flip(differences: Iterable[int]) -> int | None:
    """Give the smallest sum of differences of these sizes that ``sign_flip`` calls significant.

    Args:
        differences: as ``sign_flip`` takes them; only their sizes count.

    Returns:
        A whole number; None where not even differences of one sign would be significant.

    Example:
        >>> smallest_flip([1] * 20), smallest_flip([1] * 5), smallest_flip([2] * 6)
        (10, None, 12)
    """
    chances = _chances_of_flips(differences)
    (flipped,) = np.nonzero((2.0 * chances.cumsum() <= ALPHA) & (chances > 0))
    return len(chances) - 1 - 2 * int(flipped[-1]) if len(flipped) else None


def detectable_mean(differences: Sequence[int]) -> float | None:
    """Give the mean difference that such a test finds 80 times in 100, about.

    By the normal curve, for differences as large as seen; as few as it takes, where fewer were.

    Args:
        differences: as ``sign_flip`` takes them; only their sizes count.

    Returns:
        A difference; None where no outcome could be significant.

    Example:
        >>> round(detectable_mean([1] * 20 + [0] * 80), 3), detectable_mean([1] * 5)
        (0.124, None)
    """
    n, z, power = len(differences), norm.ppf(1 - ALPHA / 2), norm.ppf(0.8)
    if smallest_significant(n) is None:
        return None
    # a mean m of root mean square r is found if m sqrt(n) = z r + power sqrt(r^2 - m^2)
    share = (z * n**0.5 + power * (n + power**2 - z**2) ** 0.5) / (n + power**2)  # m / r
    # and of whole numbers m is r^2 at most
    return float(share * max(np.sqrt(np.mean(np.square(differences))), share))


def smallest_significant(n: int, num_discordant: int | None = None) -> float | None:
    """Give the smallest difference of two rates that McNemar's exact test calls significant.

    Args:
        n: items that both models were asked.
        num_discordant: on how many of them they differ; None for the best case, in which all
            of these are to the good of one model (6 of them are then enough at 5 %).

    Returns:
        A difference of rates from 0 to 1; None where no outcome could be significant.

    Example:
        >>> smallest_significant(100), smallest_significant(5)
        (0.06, None)
        >>> smallest_significant(100, 20)  # 15 against 5
        0.1
    """
    counts = np.arange(n + 1) if num_discordant is None else np.array([num_discordant])
    fewest = _most_against(counts)
    gaps = (counts - 2 * fewest)[fewest >= 0]
    return None if not len(gaps) else float(gaps.min()) / n


def detectable(n: int, discordance: float, *, power: float = 0.8) -> float | None:
    """Give the true difference that McNemar's exact test finds with a given power.

    Computed exactly: the number of discordant items is binomial over ``n``, the better model's
    share of them is binomial again, and only a significant result to its good counts as found.

    Args:
        n: items that both models are asked.
        discordance: share of items on which the models differ; it is raised to the difference
            where it is smaller. 1 is the worst case.
        power: chance that the test finds the difference.

    Returns:
        A difference of rates from 0 to 1; None where not even a difference of 1 is found.

    Example:
        >>> round(detectable(100, 0.2), 3), detectable(5, 0.2)
        (0.128, None)
    """
    counts = np.arange(n + 1)
    most = _most_against(counts)

    def lacking(difference: float) -> float:
        share = min(1.0, max(discordance, difference))
        against = 0.5 * (1 - difference / share)
        found = binom.cdf(most, counts, against)
        return float(binom.pmf(counts, n, share) @ found) - power

    if n < 1 or lacking(1.0) < 0:
        return None
    return float(brentq(lacking, 1e-9, 1.0, xtol=1e-6))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Correct p-values of several tests, so that the chance of any false alarm stays at 5 %.

    Holm, A simple sequentially rejective multiple test procedure, 1979. Written out here, for
    statsmodels collects garbage at every call, which takes longer than all else of a comparison.

    Example:
        >>> holm({"math": 0.01, "code": 0.04})
        {'math': 0.02, 'code': 0.04}
    """
    corrected, least = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[name]))
        corrected[name] = least
    return {name: corrected[name] for name in p_values}


def clustered_interval(
    pairs: Sequence[tuple[float, float]],
    clusters: Sequence[Hashable],
    *,
    other: Sequence[tuple[float, float]] | None = None,
    seed: int = 0,
) -> list[float] | None:
    """Give the 95 % bootstrap interval of a mean, or of a difference of two paired means.

    Whole clusters are drawn, so that items which belong together do not count as independent;
    percentiles, of 2,000 draws. Where all items are alike it has no width: read Wilson's then.

    Args:
        pairs: (sum, count) of each item, as (nats, tokens) or (1 if right, 1).
        clusters: which cluster each item is in.
        other: the same items' sums and counts on another side; its mean minus the first is taken.
        seed: of the draws.

    Returns:
        Lower and upper bound; None for a single cluster, which tells nothing of others.

    Example:
        >>> clustered_interval([(1, 1), (1, 1)], ["a", "b"])
        [1.0, 1.0]
    """
    places: dict[Hashable, int] = {}
    rows = np.array([places.setdefault(cluster, len(places)) for cluster in clusters])
    columns = [
        np.array(side, dtype=float) for side in ((pairs,) if other is None else (pairs, other))
    ]
    sums = [np.bincount(rows, weights=side[:, k]) for side in columns for k in (0, 1)]

    def statistic(*drawn: Any, axis: int = -1) -> Any:
        totals = [part.sum(axis=axis) for part in drawn]
        means = [totals[k] / totals[k + 1] for k in range(0, len(totals), 2)]
        return means[-1] - means[0] if len(means) == 2 else means[0]

    if len(places) < 2:  # nothing to draw from
        return None
    found = bootstrap(
        sums,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=_NUM_DRAWS,
        batch=200,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return [float(found.low), float(found.high)]


def clustered_rate_interval(
    counts: Sequence[tuple[float, float]], clusters: Sequence[Hashable]
) -> list[float]:
    """Give the 95 % interval of a rate, as ``clustered_interval`` does, but never without width.

    Where clusters are all alike, drawing them again shows no spread, which does not say that there
    is none: Wilson's formula is told as many trials as there are clusters then.

    Args:
        counts: (right answers, answers) of each item.
        clusters: which cluster each item is in; at least one.

    Returns:
        Lower and upper bound, both from 0 to 1.

    Example:
        >>> clustered_rate_interval([(1, 1)] * 9, list("aaabbbccc")) == wilson(3, 3)
        True
    """
    totals: dict[Hashable, tuple[float, float]] = {}
    for (right, answers), name in zip(counts, clusters, strict=True):
        known = totals.get(name, (0.0, 0.0))
        totals[name] = (known[0] + right, known[1] + answers)
    spread = np.ptp([right / answers for right, answers in totals.values()])
    found = clustered_interval(counts, clusters) if spread > _NO_SPREAD else None
    if found is not None:
        return found
    num = len(totals)
    mean = sum(right for right, _ in counts) / sum(answers for _, answers in counts)
    low, high = proportion_confint(mean * num, num, alpha=ALPHA, method="wilson")
    return [max(0.0, float(low)), min(1.0, float(high))]


def _chances_of_flips(differences: Iterable[int]) -> NDArray[Any]:
    """Give the chance of each sum of flipped differences, from none to all of them."""
    sizes = Counter(abs(d) for d in differences if d)
    chances = np.ones(1)
    for size, count in sorted(sizes.items()):
        spread = np.zeros(size * count + 1)
        spread[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, spread)
    return chances


def _most_against(counts: NDArray[Any]) -> NDArray[Any]:
    """Give, for each number of discordant items, the most against that stay significant; or -1."""
    quantile = binom.ppf(ALPHA / 2, counts, 0.5)
    is_over = binom.cdf(quantile, counts, 0.5) > ALPHA / 2
    found: NDArray[Any] = np.where(counts > 0, quantile - is_over, -1)
    return found
