"""Length and variety of answers, and that variety is compared at one length."""

from __future__ import annotations

import pytest

from biddable.evaluation.diversity import distinct, distinct_of_length, measure_diversity


def test_distinct_counts_as_the_paper_does() -> None:
    """By hand: 6 words, of them {a, b, c}; pairs ab, bc, ab, ba; triples abc, aba."""
    answers = [["a", "b", "c"], ["a", "b", "a"]]
    assert distinct(answers) == {"1": 3 / 6, "2": 3 / 6, "3": 2 / 6}
    assert distinct([[], []]) is None


def test_longer_text_of_the_same_writer_is_less_distinct_until_cut() -> None:
    writer = [[f"w{(k * k + n) % 97}" for k in range(12)] for n in range(40)]
    short, long = distinct(writer[:4]), distinct(writer)
    assert short is not None
    assert long is not None
    assert long["1"] < 0.5 * short["1"]
    cut = distinct_of_length(writer, 48)
    assert cut is not None
    assert cut["1"] == pytest.approx(short["1"], abs=0.15)


def test_sides_are_described_over_as_many_words() -> None:
    found = measure_diversity(
        {"base": ["One two three four."] * 3, "instruct": ["one", "", "TWO!"]}
    )
    assert found is not None
    assert found["same_length_words"] == 2
    assert found["base"]["words"] == {"total": 12, "mean": 4.0, "median": 4.0, "p95": 4.0}
    assert found["instruct"]["words"]["mean"] == pytest.approx(2 / 3)
    assert found["instruct"]["distinct_same_length"]["1"] == 1.0
    assert found["base"]["distinct"]["1"] == pytest.approx(4 / 12)
    assert found["base"]["distinct_same_length"]["1"] == 1.0


def test_no_words_say_nothing() -> None:
    assert measure_diversity({"base": ["", "..."], "instruct": [""]}) is None
    found = measure_diversity({"base": ["a b"], "instruct": [""]})
    assert found is not None
    assert found["instruct"]["distinct"] is None
    assert found["instruct"]["distinct_same_length"] is None
