"""Rates beside the verdict's: paired, tested and corrected together."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from biddable.evaluation.rates_compared import compare_rates, rates_in_a_sentence
from biddable.evaluation.runner import Outcome, judge_outputs
from biddable.evaluation.scores import scores
from tests.evaluation.items import contains, item

AGAIN = "Name a fruit.\nName a tree.\nName a bird."  # orders again, as a base does


def judged(outputs: list[str], **changes: object) -> list[Outcome]:
    samples = [
        item(f"{n}", f"Name colour {n}.", "red", check=contains("red"), **changes)
        for n in range(len(outputs))
    ]
    return judge_outputs(samples, outputs, stopped=[True] * len(outputs))


def test_a_rate_is_tested_by_the_exact_test_over_its_items_and_corrected() -> None:
    before = judged([AGAIN] * 9 + ["red"] * 3)
    after = judged(["red"] * 11 + [AGAIN])
    found = compare_rates(before, after, figure="instruction_following")
    mimicry = found["mimicry"]
    assert (mimicry["n"], mimicry["rose"], mimicry["fell"]) == (12, 1, 9)
    assert (mimicry["before"], mimicry["after"]) == (9 / 12, 1 / 12)
    assert mimicry["before"] == scores(before)["mimicry"]["rate"]
    assert mimicry["p"] == pytest.approx(binomtest(1, 10).pvalue)
    assert mimicry["p_holm"] == pytest.approx(len(found) * mimicry["p"])
    assert found["run_on"] == {
        "n": 12, "before": 0, "after": 0, "rose": 0, "fell": 0, "p": 1.0, "p_holm": 1.0,
    }  # fmt: skip
    assert "refusal_harmful" not in found  # no such items


def test_items_that_belong_together_prove_no_more_than_their_cluster() -> None:
    before, after = judged([AGAIN] * 9, entity="one"), judged(["red"] * 9, entity="one")
    assert compare_rates(before, after, figure="instruction_following")["mimicry"]["p"] == 1
    assert (
        compare_rates(judged([AGAIN] * 9), judged(["red"] * 9), figure=None)["mimicry"]["p"] < 0.01
    )


def test_refusals_by_kind_are_left_to_a_verdict_on_refusals() -> None:
    before, after = judged(["red"] * 3, kind="harmful"), judged(["red"] * 3, kind="harmful")
    assert "refusal_harmful" in compare_rates(before, after, figure="instruction_following")
    found = compare_rates(before, after, figure="refusal_right")
    assert "refusal_harmful" not in found
    assert "refusal_partial" in found  # which its kinds do not count


def test_the_same_items_are_tested_once_where_all_harmless_ones_are_lookalikes() -> None:
    sides = [judged([text] * 12, kind="lookalike") for text in (AGAIN, "red")]
    found = compare_rates(sides[0], sides[1], figure="instruction_following")
    assert found["refusal_lookalike"]["n"] == 12
    assert "refusal_benign" not in found
    assert found["mimicry"]["p_holm"] == pytest.approx(9 * found["mimicry"]["p"])
    mixed = [side + judged(["red"], kind="benign") for side in sides]
    found = compare_rates(mixed[0], mixed[1], figure="instruction_following")
    assert (found["refusal_benign"]["n"], found["refusal_lookalike"]["n"]) == (13, 12)


def test_what_is_proven_is_told_and_else_that_nothing_is() -> None:
    before, after = judged([AGAIN] * 12), judged(["red"] * 12)
    told = rates_in_a_sentence({"rates_compared": compare_rates(before, after, figure=None)})
    assert "mimicry 100.0 to 0.0 % (p = 0.0" in told
    assert "run-on" not in told
    same = rates_in_a_sentence({"rates_compared": compare_rates(after, after, figure=None)})
    assert same.endswith("none is proven to differ.")
    assert rates_in_a_sentence({}) == ""
    assert told.startswith("Of 9 rates,")  # no verdict, beside which they would be others
    assert rates_in_a_sentence(
        {"rates_compared": {"empty": {"p_holm": 1.0}}, "statistics": {"n": 1}}
    ).startswith("Of 1 other rate,")
