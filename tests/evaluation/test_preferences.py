"""The length-controlled win rate finds what was put into the data, and says when it cannot."""

from __future__ import annotations

import numpy as np
import pytest

from biddable.evaluation.preferences import Preference, length_controlled, summarise


def drawn(n: int, *, skill: float, pull: float, lean: float, seed: int = 0) -> list[Preference]:
    """Draw preferences whose log-odds are ``skill + pull * tanh(gap / scale)``."""
    draw = np.random.default_rng(seed)
    gaps = np.round(draw.normal(lean, 100.0, n))
    odds = skill + pull * np.tanh(gaps / gaps.std())
    values = (draw.random(n) < 1 / (1 + np.exp(-odds))).astype(float)
    return [Preference(f"i{k}", float(values[k]), int(gaps[k])) for k in range(n)]


def test_the_skill_is_found_under_the_pull_of_length() -> None:
    found = summarise(drawn(2500, skill=0.4, pull=2.0, lean=150.0))
    true = 1 / (1 + np.exp(-0.4))
    controlled = found["win_rate_length_controlled"]
    assert controlled["rate"] == pytest.approx(true, abs=0.06)
    assert controlled["ci95"][0] < true < controlled["ci95"][1]
    assert found["win_rate"]["rate"] > true + 0.15  # raw, it looks far better than it is
    assert found["length"]["weight"] == pytest.approx(2.0, abs=0.4)


def test_without_a_pull_both_rates_are_alike() -> None:
    found = summarise(drawn(1200, skill=0.8, pull=0.0, lean=100.0))
    assert found["win_rate_length_controlled"]["rate"] == pytest.approx(
        found["win_rate"]["rate"], abs=0.03
    )


def test_the_point_is_that_of_a_plain_fit_on_many_items() -> None:
    """The one pseudo-item is nothing beside a thousand; fitted here by scipy alone."""
    from scipy.optimize import minimize

    chosen = drawn(1500, skill=-0.3, pull=1.0, lean=50.0)
    values = np.array([p.value for p in chosen])
    gaps = np.array([float(p.gap) for p in chosen])
    scale = float(gaps.std())

    def loss(weights: np.ndarray) -> float:
        odds = weights[0] + weights[1] * np.tanh(gaps / scale)
        return float(np.logaddexp(0, odds).sum() - (values * odds).sum())

    intercept, weight = minimize(loss, np.zeros(2)).x
    win_rate, found = length_controlled(values, gaps, scale=scale)
    assert win_rate == pytest.approx(1 / (1 + np.exp(-intercept)), abs=0.002)
    assert found == pytest.approx(weight, abs=0.02)


def test_what_length_did_cannot_always_be_told() -> None:
    always = summarise([Preference(f"i{n}", 1.0, n + 1) for n in range(9)])
    assert always["win_rate_length_controlled"] is None
    assert "cannot be told" in always["length"]["why_not_controlled"]
    same = summarise([Preference(f"i{n}", float(n % 2), 7) for n in range(9)])
    assert "same number of characters" in same["length"]["why_not_controlled"]
    mixed = summarise([Preference(f"i{n}", 1.0, n - 4) for n in range(9)])
    assert mixed["win_rate_length_controlled"]["rate"] == 1.0
    # nine wins of nine are no certainty: Wilson's bound, as drawing again would show no spread
    assert mixed["win_rate"]["ci95"] == pytest.approx([0.7009, 1.0], abs=1e-4)
    assert mixed["win_rate_length_controlled"]["ci95"] == mixed["win_rate"]["ci95"]
    level = summarise([Preference(f"i{n}", float(n < 6), 0) for n in range(9)])
    assert level["win_rate_length_controlled"]["rate"] == level["win_rate"]["rate"] == 6 / 9
    assert level["length"]["longer_won"] is None
    one_sided = summarise([Preference(f"i{n}", float(n % 3 > 0), 5 + n) for n in range(12)])
    assert one_sided["length"]["is_extrapolated"]


def test_whole_clusters_are_drawn_and_flipped() -> None:
    """Twenty items about one thing are one observation, not twenty."""
    alone = [Preference(f"i{n}", 1.0 if n < 16 else 0.0, n % 5 - 2) for n in range(20)]
    heaped = [Preference(f"c{n // 10}", p.value, p.gap) for n, p in enumerate(alone)]
    apart, together = summarise(alone), summarise(heaped)
    assert apart["win_rate"]["rate"] == together["win_rate"]["rate"]
    assert apart["p"] < 0.05 < together["p"]
