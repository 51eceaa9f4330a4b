"""Rows that begin alike are found, and stay in one step; nothing else of a plan changes."""

from __future__ import annotations

import mmap
import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biddable.data import together
from biddable.data.batching import BatchPlan, plan_batches
from biddable.data.encoded import EncodedRows
from biddable.data.encoding import Example
from biddable.data.together import find_bunches, shuffle_together


def encoded(ids: list[list[int]]) -> EncodedRows:
    return EncodedRows.of([Example(row, [True] * len(row)) for row in ids])


def fresh(count: int, *, seed: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(1000, 3000) for _ in range(count)]


def questions(
    num_documents: int, num_questions: int, *, preamble: int = 0, document: int = 100, own: int = 20
) -> list[list[int]]:
    """Ask about some documents, in no order: question q on document d is row q * documents + d."""
    opening = fresh(preamble, seed=-1)
    documents = [[n, *fresh(document - 1, seed=n)] for n in range(num_documents)]
    return [
        opening + documents[d] + [q, *fresh(own - 1, seed=1000 + q * num_documents + d)]
        for q in range(num_questions)
        for d in range(num_documents)
    ]


def as_sets(bunches: list[list[int]]) -> set[frozenset[int]]:
    return {frozenset(bunch) for bunch in bunches}


@pytest.mark.parametrize("preamble", [0, 5, 40, 200], ids="a preamble of {} ids".format)
def test_questions_on_a_document_are_a_bunch_after_any_preamble(preamble: int) -> None:
    rows = encoded(questions(6, 4, preamble=preamble))
    expected = {frozenset(range(d, 24, 6)) for d in range(6)}
    assert as_sets(find_bunches(rows, 8)) == expected


def test_a_start_that_is_no_longer_than_that_of_all_rows_is_none() -> None:
    assert find_bunches(encoded(questions(20, 1, preamble=200)), 4) == []


@pytest.mark.parametrize(("document", "is_bunch"), [(31, False), (32, True)])
def test_a_start_counts_beyond_what_more_rows_have(document: int, is_bunch: bool) -> None:
    rows = encoded(questions(6, 4, preamble=50, document=document, own=5))
    assert bool(find_bunches(rows, 8)) is is_bunch


@pytest.mark.parametrize(("own", "is_bunch"), [(180, True), (440, False)])
def test_a_start_that_saves_little_is_left_mixed(own: int, is_bunch: bool) -> None:
    """Two rows of 50 ids in common and as many of their own: 50 of 460 saved, or of 980."""
    rows = encoded(questions(20, 2, document=50, own=own))
    assert bool(find_bunches(rows, 4)) is is_bunch


def test_a_preamble_of_half_of_the_rows_is_none_and_its_documents_are_bunches() -> None:
    """In shuffled steps of 8 it is run in each, in those of half of the rows in half of them."""
    asked = questions(10, 4, preamble=60, document=200)
    others = [fresh(150, seed=5000 + n) for n in range(40)]
    expected = {frozenset(range(d, 40, 10)) for d in range(10)}
    assert as_sets(find_bunches(encoded(asked + others), 8)) == expected


def test_more_rows_than_a_step_has_are_cut_in_the_order_of_their_ids() -> None:
    ids = questions(4, 11)
    bunches = find_bunches(encoded(ids), 4)
    assert sorted(map(len, bunches)) == [3] * 4 + [4] * 8
    for document in range(4):
        (*whole,) = (bunch for bunch in bunches if bunch[0] % 4 == document)
        ordered = sorted((n for bunch in whole for n in bunch), key=ids.__getitem__)
        assert sorted(whole) == sorted([ordered[:4], ordered[4:8], ordered[8:]])


def test_what_is_left_alone_by_a_cut_is_in_no_bunch() -> None:
    bunches = find_bunches(encoded(questions(4, 5)), 4)
    assert [len(bunch) for bunch in bunches] == [4] * 4


def test_rows_that_are_equal_empty_or_a_start_of_others_are_found() -> None:
    start = fresh(70, seed=0)
    others = [fresh(70, seed=n) for n in range(1, 9)]
    ids = [start, [], start[:64], others[0], [], [*start, 5], others[0], *others[1:]]
    assert as_sets(find_bunches(encoded(ids), 3)) == {frozenset({0, 2, 5}), frozenset({3, 6})}
    assert find_bunches(encoded([[], []]), 1) == []


def test_rows_of_a_mapped_file_come_to_the_same_bunches(tmp_path: Path) -> None:
    rows = encoded(questions(6, 4))
    path = tmp_path / "input_ids"
    path.write_bytes(rows.input_ids.tobytes())
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    ids = np.frombuffer(mapped, np.int32)
    assert find_bunches(replace(rows, input_ids=ids, mapped=(mapped,)), 8) == find_bunches(rows, 8)


def test_one_step_has_all_rows_anyway() -> None:
    assert find_bunches(encoded(questions(3, 3)), 9) == []


@given(
    ids=st.lists(st.lists(st.integers(0, 1), max_size=12), min_size=1, max_size=30),
    size=st.integers(1, 6),
)
@settings(deadline=None, max_examples=100, database=None)
def test_bunches_are_those_of_the_rule_followed_row_by_row(ids: list[list[int]], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(together, "_LEAST_IDS", 2)
        patch.setattr(together, "_AT_ONCE", 1)  # so that no start is looked at in part
        found = find_bunches(encoded(ids), size)
    assert as_sets(found) == as_sets(by_the_rule(ids, size))


def by_the_rule(ids: list[list[int]], size: int) -> list[list[int]]:
    """Find bunches from the root of the rows' tree, one id further at a time."""
    num_steps = -(-len(ids) // size)
    found = []

    def look(numbers: list[int], depth: int, known: int) -> None:
        """Look at rows that have `depth` ids in common, `known` of them with more rows."""
        if len(numbers) < 2:
            return
        more, runs = depth - known, min(len(numbers), num_steps)
        rest = sum(len(ids[n]) - depth for n in numbers)
        saved = more * (runs - -(-len(numbers) // size))
        if more >= 2 and saved >= 0.1 * (more * runs + rest):
            ordered = sorted(numbers, key=lambda n: (ids[n], numbers.index(n)))
            found.extend(ordered[n : n + size] for n in range(0, len(ordered), size))
            return
        after = {tuple(ids[n][depth : depth + 1]) for n in numbers}
        for following in sorted(after - {()}):
            part = [n for n in numbers if tuple(ids[n][depth : depth + 1]) == following]
            look(part, depth + 1, known if len(after) == 1 else depth)

    look([n for n, row in enumerate(ids) if row], 0, 0)
    return [bunch for bunch in found if len(bunch) > 1]


def test_without_bunches_the_order_is_what_it_was() -> None:
    expected = list(range(50))
    random.Random("7:2").shuffle(expected)
    assert shuffle_together(50, [], size=8, seed="7:2") == expected
    steps = plan_batches([1] * 50, batch_size=8, epochs=3, seed=7)
    assert [n for step in steps if step.epoch == 2 for n in sorted(step.rows)] == [
        n for start in range(0, 50, 8) for n in sorted(expected[start : start + 8])
    ]


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=30),
    size=st.integers(1, 9),
    seed=st.integers(0, 9),
)
@settings(deadline=None, max_examples=150, database=None)
def test_all_rows_are_shuffled_and_a_bunch_is_cut_only_where_nothing_fits(
    sizes: list[int], size: int, seed: int
) -> None:
    sizes = [min(count, size) for count in sizes]
    ends = np.cumsum(sizes).tolist()
    units = [list(range(end - count, end)) for end, count in zip(ends, sizes, strict=True)]
    bunches = [unit for unit in units if len(unit) > 1]
    order = shuffle_together(ends[-1], bunches, size=size, seed=f"{seed}:0")
    assert sorted(order) == list(range(ends[-1]))
    place = {row: n for n, row in enumerate(order)}
    for bunch in bunches:
        first = place[bunch[0]]
        for row, after in pairwise(bunch):
            assert place[row] < place[after]
        if place[bunch[-1]] // size != first // size:
            room = size - first % size
            assert room < len(bunch)  # it would have been whole
            later = [unit for unit in bunches if place[unit[0]] > first]
            assert all(len(unit) > room for unit in later)
            singles = set(range(ends[-1])) - {row for bunch in bunches for row in bunch}
            assert all(place[row] < first for row in singles)


def test_bunches_are_shuffled_anew_in_each_epoch_and_by_each_seed() -> None:
    bunches = [[n, n + 1] for n in range(0, 40, 2)]
    orders = [
        shuffle_together(40, bunches, size=8, seed=seed) for seed in ("0:0", "0:1", "1:0", "0:0")
    ]
    assert orders[0] == orders[3]
    assert len(set(map(tuple, orders))) == 3


def test_each_document_is_run_once_where_its_questions_stay_together() -> None:
    """The figures of docs/engine.md."""
    rows = encoded(questions(200, 8, document=48, own=6))
    mixed = BatchPlan(rows, batch_size=32, is_tree=True)
    kept = mixed.keeping_together()
    assert mixed.num_tokens == kept.num_tokens == 86_400
    assert kept.num_unique_tokens == 200 * 48 + 1600 * 6 == 19_200
    assert mixed.num_unique_tokens == 81_600  # each document in 7.5 of its 8 steps
    assert kept.num_kept_together == 1600
    assert kept.describe()["summary"].endswith("; 1,600 rows kept with those that begin alike")
    assert "kept" not in mixed.describe()["summary"]
    assert kept.keeping_together() is kept


def test_steps_are_as_many_and_as_large_and_any_can_be_asked_for_first() -> None:
    rows = encoded(questions(7, 5))
    mixed = BatchPlan(rows, batch_size=8, epochs=2.5, seed=1)
    list(mixed)  # it holds an order that is not the other's
    kept = mixed.keeping_together()
    steps = list(kept)
    assert [len(step.rows) for step in steps] == [len(step.rows) for step in mixed]
    assert [kept[n] for n in reversed(range(len(kept)))][::-1] == steps
    assert list(kept[7:]) == steps[7:]
    for epoch in (0, 1):
        assert sorted(n for s in steps if s.epoch == epoch for n in s.rows) == list(range(35))
    assert steps != list(mixed)
