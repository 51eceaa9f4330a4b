"""Hold that the rows held out are the last ones after shuffling, and no others."""

from __future__ import annotations

import random

import pytest

from biddable.data.splits import split_rows


def test_the_last_rows_after_shuffling_are_held_out() -> None:
    rows = list(range(20))
    random.Random(3).shuffle(rows)
    assert split_rows(range(20), held_out_rows=5, shuffle_seed=3) == (rows[:15], rows[15:])


@pytest.mark.parametrize(("count", "learned"), [(None, 3), (3, 0), (9, 0)])
def test_no_row_is_in_both_parts(count: int | None, learned: int) -> None:
    found = split_rows("abc", held_out_rows=count)
    assert (len(found[0]), sorted(found[0] + found[1])) == (learned, ["a", "b", "c"])
