"""Hold that the rows held out are the last ones after shuffling, and no others."""

from __future__ import annotations

import random

import pytest

from biddable.data.conversation import Conversation
from biddable.data.splits import cut_in_words, split_rows


def _rows(categories: str) -> list[Conversation]:
    """Make a row for each letter, which is its category; none for a point."""
    return [
        Conversation((), "a.jsonl", line, category=None if name == "." else name)
        for line, name in enumerate(categories, 1)
    ]


@pytest.mark.parametrize(
    ("categories", "num_held_out", "named"),
    [("aabb", 2, '"b"'), ("abcdef", 4, '"c", "d", "e", ...'), ("..b", 1, '"b"')],
)
def test_rows_that_look_sorted_are_warned_of(
    categories: str, num_held_out: int, named: str
) -> None:
    rows = _rows(categories)
    cut = len(rows) - num_held_out
    warning = cut_in_words(rows[:cut], rows[cut:])[1]
    assert warning.startswith(f"no other row is of category {named}: data.train looks sorted")
    assert warning.endswith("set data.shuffle_seed")
    assert len(cut_in_words(rows[:cut], rows[cut:], shuffle_seed=0)) == 1


@pytest.mark.parametrize("categories", ["abab", "aaab.", "....", "abba"])
def test_rows_of_mixed_or_no_categories_are_not(categories: str) -> None:
    rows = _rows(categories)
    assert len(cut_in_words(rows[:-2], rows[-2:])) == 1


def test_it_is_said_which_rows_are_held_out() -> None:
    rows = _rows("...")
    assert cut_in_words(rows[:1], rows[1:]) == [
        "the last 2 rows of data.train in file order, a.jsonl:2 to a.jsonl:3"
    ]
    drawn = cut_in_words(rows[:1], rows[1:], shuffle_seed=3)
    assert drawn == ["2 rows, drawn by data.shuffle_seed 3"]


def test_the_last_rows_after_shuffling_are_held_out() -> None:
    rows = list(range(20))
    random.Random(3).shuffle(rows)
    assert split_rows(range(20), held_out_rows=5, shuffle_seed=3) == (rows[:15], rows[15:])


@pytest.mark.parametrize(("count", "learned"), [(None, 3), (3, 0), (9, 0)])
def test_no_row_is_in_both_parts(count: int | None, learned: int) -> None:
    found = split_rows("abc", held_out_rows=count)
    assert (len(found[0]), sorted(found[0] + found[1])) == (learned, ["a", "b", "c"])
