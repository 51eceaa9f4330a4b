"""Intervals and p-values, against values known from elsewhere."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from biddable.errors import EvaluationError
from biddable.evaluation.statistics import (
    clustered_interval,
    clustered_rate_interval,
    detectable,
    detectable_mean,
    holm,
    mcnemar,
    rate,
    rate_of,
    sign_flip,
    smallest_significant,
    wilson,
)


def test_wilson_is_the_published_interval() -> None:
    # Newcombe 1998, table I: 81 of 263
    assert wilson(81, 263) == pytest.approx([0.2553, 0.3662], abs=5e-5)


@pytest.mark.parametrize(("successes", "n"), [(0, 5), (5, 5), (1, 1)])
def test_wilson_stays_between_0_and_1(successes: int, n: int) -> None:
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_impossible_counts_are_refused(successes: int, n: int) -> None:
    with pytest.raises(EvaluationError, match="is no share"):
        wilson(successes, n)


def test_a_rate_has_its_interval_and_count() -> None:
    assert rate(3, 4) == {"rate": 0.75, "ci95": wilson(3, 4), "n": 4}
    assert rate(0, 0) is None


def test_what_is_not_known_does_not_count() -> None:
    assert rate_of([True, None, False, True]) == rate(2, 3)
    assert rate_of([None]) is None


def test_mcnemar_is_the_exact_binomial_test() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(8, 2) == pytest.approx(0.109375)
    assert mcnemar(2, 8) == mcnemar(8, 2)
    assert mcnemar(3, 3) == 1.0


def test_flipping_signs_is_mcnemar_where_items_stand_alone() -> None:
    for fixed, broken in ((0, 0), (6, 0), (8, 2), (2, 8), (40, 25), (735, 1)):
        differences = [1] * fixed + [-1] * broken + [0] * 7
        assert sign_flip(differences) == pytest.approx(mcnemar(fixed, broken), rel=1e-9)


def test_flipping_signs_counts_every_way() -> None:
    given = [3, -1, 2, 2, 1, 0]
    sums = [sum(s * abs(d) for s, d in zip(signs, given, strict=True))
            for signs in product((1, -1), repeat=6)]  # fmt: skip
    share = sum(abs(total) >= sum(given) for total in sums) / len(sums)
    assert sign_flip(given) == pytest.approx(share)


def test_the_smallest_difference_is_significant_and_the_next_smaller_is_not() -> None:
    assert smallest_significant(200) == pytest.approx(6 / 200)
    assert mcnemar(6, 0) <= 0.05 < mcnemar(5, 0)
    for discordant in (6, 9, 30, 101):
        gap = round((smallest_significant(300, discordant) or 0) * 300)
        more = (discordant + gap) // 2
        assert mcnemar(more, discordant - more) <= 0.05 < mcnemar(more - 1, discordant - more + 1)
    assert smallest_significant(300, 5) is None


@pytest.mark.parametrize(("n", "discordance"), [(60, 0.5), (200, 0.2), (400, 1.0), (40, 0.0)])
def test_the_power_is_as_promised(n: int, discordance: float) -> None:
    difference = detectable(n, discordance)
    assert difference is not None
    share = max(discordance, difference)
    draws = np.random.default_rng(1).multinomial(
        n, [(share + difference) / 2, (share - difference) / 2, 1 - share], size=4000
    )
    known = {pair: mcnemar(*pair) for pair in {(int(f), int(b)) for f, b, _ in draws}}
    found = np.mean([f > b and known[int(f), int(b)] <= 0.05 for f, b, _ in draws])
    assert found == pytest.approx(0.8, abs=0.025)  # 4 standard errors


@pytest.mark.parametrize("num_differing", [0, 20, 100])
def test_the_power_of_sums_is_that_of_items_where_each_is_one(num_differing: int) -> None:
    exact = detectable(100, num_differing / 100)
    assert exact == pytest.approx(
        detectable_mean([1] * num_differing + [0] * (100 - num_differing)), rel=0.05
    )


def test_the_power_of_sums_is_as_promised() -> None:
    """Also where every difference was to the good: a test that flips signs goes by their size."""
    sizes = np.array([0, 1, 2, 2, 4] * 12)
    mean = detectable_mean([int(size) for size in sizes])
    assert mean is not None
    share = 0.5 * (1 + mean / sizes.mean())
    rng, found = np.random.default_rng(3), 0
    for _ in range(400):
        drawn = rng.choice(sizes, len(sizes)) * rng.choice(
            [1, -1], len(sizes), p=[share, 1 - share]
        )
        found += sign_flip(int(d) for d in drawn) <= 0.05
    assert 0.74 < found / 400 < 0.86


def test_false_alarms_are_as_rare_as_promised() -> None:
    rng = np.random.default_rng(2)
    known = [mcnemar(k, 30 - k) <= 0.05 for k in range(31)]
    plain = [known[k] for k in rng.binomial(30, 0.5, size=4000)]
    assert np.mean(plain) <= 0.05 + 0.01
    # Clusters of 5 that flip together: McNemar takes 100 items for independent and errs often.
    signs = rng.choice((-1, 1), size=(1000, 20))
    together = [sign_flip((5 * row).tolist()) <= 0.05 for row in signs]
    apart = [mcnemar(5 * int((row > 0).sum()), 5 * int((row < 0).sum())) <= 0.05 for row in signs]
    assert np.mean(together) <= 0.05 + 0.02
    assert np.mean(apart) > 0.25


def test_holm_is_what_statsmodels_says_and_keeps_false_alarms_rare() -> None:
    tests = np.random.default_rng(3).uniform(size=(2000, 8))
    for row in (tests[0] ** 4, np.array([0.02, 0.02, 0.9, 0.01])):
        found = holm({str(n): float(p) for n, p in enumerate(row)})
        assert list(found) == [str(n) for n in range(len(row))]
        expected = multipletests(row, method="holm")[1]
        assert list(found.values()) == pytest.approx(expected.tolist())
    assert np.mean(8 * tests.min(axis=1) <= 0.05) <= 0.05 + 0.015
    assert np.mean(tests.min(axis=1) <= 0.05) > 0.3
    assert holm({}) == {}


def test_the_clustered_interval_covers_where_wilson_does_not() -> None:
    rng = np.random.default_rng(4)
    names = [n // 5 for n in range(300)]
    hits, plain = [], []
    for _ in range(200):
        shares = rng.beta(1, 1, size=60)  # the mean is 0.5; what shares an entity succeeds alike
        right = (rng.uniform(size=(60, 5)) < shares[:, None]).ravel()
        low, high = clustered_interval([(float(r), 1.0) for r in right], names)
        hits.append(low <= 0.5 <= high)
        bounds = wilson(int(right.sum()), 300)
        plain.append(bounds[0] <= 0.5 <= bounds[1])
    assert np.mean(hits) >= 0.90
    assert np.mean(plain) < 0.87


def test_the_paired_interval_is_of_the_difference() -> None:
    before = [(float(n), 2.0) for n in range(40)]
    after = [(total - 1.0, 2.0) for total, _ in before]
    low, high = clustered_interval(before, range(40), other=after)
    assert (low, high) == pytest.approx((-0.5, -0.5))  # items differ much, their differences not
    again = clustered_interval(before, range(40), seed=7)
    assert again == clustered_interval(before, range(40), seed=7)
    assert clustered_interval(before, ["one"] * 40) is None  # which tells nothing of other clusters


def test_a_rate_over_clusters_is_told_where_items_are_not_their_own() -> None:
    right = [True] * 30 + [False] * 10 + [None] * 4
    alone = rate_of(right, clusters=range(44))
    assert alone == rate(30, 40)
    found = rate_of(right, clusters=[n // 10 for n in range(44)])
    assert found is not None
    assert found["num_clusters"] == 4  # what is not known is no cluster either
    low, high = found["clustered_ci95"]
    assert low < found["ci95"][0] < 0.75 < found["ci95"][1] < high
    # Draws of an item are one item, and 40 clusters of one item each are no clusters.
    drawn = rate_of([True, False] * 20, [n // 2 for n in range(40)], clusters=[0] * 40)
    assert drawn is not None
    assert (drawn["n"], drawn["num_clusters"]) == (20, 1)


@pytest.mark.parametrize("right", [0, 1])
def test_clusters_that_are_all_alike_have_wilson_s_interval_over_clusters(right: int) -> None:
    names = [n // 10 for n in range(60)]
    assert clustered_rate_interval([(right, 1)] * 60, names) == wilson(6 * right, 6)
    assert clustered_rate_interval([(right, 1)] * 60, [0] * 60) == wilson(right, 1)
