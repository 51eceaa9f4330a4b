"""Turn preferences between two sides into a win rate, with and without the pull of length."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM
from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

from biddable.evaluation.statistics import clustered_interval, rate, sign_flip, wilson

_NUM_DRAWS = 1000
_SAME_VERDICT = "every item went the same way, and the winner was the longer (or the shorter) one "\
    "each time: what length did cannot be told from what the model did"  # fmt: skip
_LENGTH_ALONE = "length alone accounts for every verdict, so nothing beside it can be seen"
_SAME_GAP = "the answers differ in length by the same number of characters on every item"

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Preference:
    """Hold what was decided about one item.

    Attributes:
        cluster: of items that are not independent.
        value: 1 if the side asked about won, 0 if it lost, 0.5 for a tie.
        gap: how much longer its answer is, in characters.
    """

    cluster: str
    value: float
    gap: int


def summarise(preferences: Sequence[Preference]) -> dict[str, Any]:
    """Count wins, and say how surely.

    Args:
        preferences: one an item, at least one.

    Returns:
        ``wins``, ``losses``, ``ties``; ``win_rate`` (ties count half) and
        ``win_rate_length_controlled``, each with ``rate``, ``ci95`` and ``n``; ``p`` of a sign test
        over whole clusters, ties left out; ``length``: mean gap in characters, how often the longer
        answer won, and the weight of length.
    """
    values = np.array([p.value for p in preferences], dtype=float)
    gaps = np.array([p.gap for p in preferences], dtype=float)
    clusters = [p.cluster for p in preferences]
    totals: dict[str, int] = {}
    for p in preferences:
        totals[p.cluster] = totals.get(p.cluster, 0) + round(2 * p.value - 1)
    interval = _alike(values, clusters) or clustered_interval(
        [(p.value, 1) for p in preferences], clusters
    )
    weight, why = length_weight(values, gaps)
    decided = (values != 0.5) & (gaps != 0)
    longer = int(((values == 1) == (gaps > 0))[decided].sum())
    controlled = None if why else _controlled(values, gaps, clusters)
    return {
        "n": len(values),
        "wins": int((values == 1).sum()),
        "losses": int((values == 0).sum()),
        "ties": int((values == 0.5).sum()),
        "win_rate": {"rate": float(values.mean()), "ci95": interval, "n": len(values)},
        "win_rate_length_controlled": controlled,
        "p": sign_flip(totals.values()),
        "length": {
            "mean_gap": float(gaps.mean()),
            "longer_won": rate(longer, int(decided.sum())),
            "weight": weight,
            "why_not_controlled": why,
            "is_extrapolated": bool((gaps > 0).all() or (gaps < 0).all()),
        },
    }


def length_controlled(values: Floats, gaps: Floats, *, scale: float) -> tuple[float, float]:
    """Estimate the win rate if both answers had been equally long.

    A logistic regression of the preference on tanh(gap / scale), read off at gap 0, as in Dubois et
    al., Length-Controlled AlpacaEval, 2024 (arXiv 2404.04475), without their term for an item's
    difficulty, which takes many models to estimate. Where they regularise, one pseudo-item stands
    beside the data that pulls the weight of length, and nothing else, towards 0: a log-F(1,1)
    prior by augmentation (Greenland and Mansournia, 2015), so that a judge who goes by length alone
    has a finite weight.

    Args:
        values: 1, 0 or 0.5 of each item, not all equal.
        gaps: characters, of each item.
        scale: characters; the standard deviation of all gaps.

    Returns:
        The win rate, and the weight of length: log-odds for one unit of tanh.

    Example:
        >>> values, gaps = np.array([1.0, 1, 0, 1, 0, 0]), np.array([9.0, 5, -4, 2, -7, -6])
        >>> win_rate, weight = length_controlled(values, gaps, scale=5.7)
        >>> 0.4 < win_rate < 0.6, weight > 2
        (True, True)
    """
    leaning = np.tanh(gaps / scale)
    rows = np.column_stack([np.ones_like(leaning), leaning])
    rows = np.vstack([rows, [0.0, 1.0]])  # without an intercept: the win rate is not pulled
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PerfectSeparationWarning)
        fitted = GLM(np.append(values, 0.5), rows, family=Binomial()).fit()
    intercept, weight = (float(value) for value in fitted.params)
    return float(1 / (1 + np.exp(-intercept))), weight


def length_weight(values: Floats, gaps: Floats) -> tuple[float | None, str | None]:
    """Give the weight of length, or why it cannot be told.

    Example:
        >>> length_weight(np.array([1.0, 1.0]), np.array([3.0, 4.0]))[0] is None
        True
    """
    if not gaps.any():
        return 0.0, None
    if np.ptp(values) == 0:
        is_mixed = (gaps > 0).any() and (gaps < 0).any()
        return (0.0, None) if is_mixed or values[0] == 0.5 else (None, _SAME_VERDICT)
    if np.ptp(gaps) == 0:
        return None, _SAME_GAP
    longer_won = (gaps > 0).astype(float)
    if gaps.all() and (
        np.array_equal(values, longer_won) or np.array_equal(values, 1 - longer_won)
    ):
        return None, _LENGTH_ALONE  # separated: any win rate at gap 0 fits as well as another
    return length_controlled(values, gaps, scale=float(gaps.std()))[1], None


def _controlled(values: Floats, gaps: Floats, clusters: Sequence[str]) -> dict[str, Any]:
    """Give the controlled rate with its interval; whole clusters are drawn."""
    scale = float(gaps.std())
    names = {name: n for n, name in enumerate(dict.fromkeys(clusters))}
    rows: list[list[int]] = [[] for _ in names]
    for n, cluster in enumerate(clusters):
        rows[names[cluster]].append(n)

    def estimate(drawn: NDArray[Any]) -> float:
        places = np.concatenate([rows[int(n)] for n in drawn])
        chosen = values[places]
        # of one kind only, or of one length: nothing to regress on
        if np.ptp(chosen) == 0 or np.ptp(gaps[places]) == 0:
            return float(chosen.mean())
        return length_controlled(chosen, gaps[places], scale=scale)[0]

    point = estimate(np.arange(len(names)))
    if (interval := _alike(values, clusters)) is not None:
        return {"rate": point, "ci95": interval, "n": len(values)}
    found = bootstrap(
        (np.arange(len(names)),),
        estimate,
        vectorized=False,
        n_resamples=_NUM_DRAWS,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return {"rate": point, "ci95": [float(found.low), float(found.high)], "n": len(values)}


def _alike(values: Floats, clusters: Sequence[str]) -> list[float] | None:
    """Give Wilson's interval over clusters where drawing again shows no spread; else None."""
    num = len(set(clusters))
    if num > 1 and np.ptp(values) > 0:
        return None
    return wilson(round(float(values.mean()) * num), num)
