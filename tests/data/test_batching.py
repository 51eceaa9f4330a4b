"""Padding and the plan of steps: nothing lost, nothing doubled, nothing padded into the loss."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biddable.data.batching import (
    MICRO_BATCH_TOKENS,
    BatchPlan,
    Step,
    collate,
    count_unique_tokens,
    plan_batches,
)
from biddable.data.encoded import EncodedRows
from biddable.data.encoding import Example
from biddable.data.grouping import group_by_starts
from biddable.data.trees import sort_rows


def test_collate_pads_on_the_right_and_by_position() -> None:
    """The padding id is the stop's id, and the stop is learned all the same."""
    long = Example([0, 5, 6, 7, 0], [False, False, False, True, True])
    short = Example([0, 8, 0], [False, False, True])
    batch = collate([long, short], pad_id=0)
    assert batch.input_ids.tolist() == [[0, 5, 6, 7, 0], [0, 8, 0, 0, 0]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert batch.labels.tolist() == [[-100, -100, -100, 7, 0], [-100, -100, 0, -100, -100]]
    assert {t.dtype for t in (batch.input_ids, batch.attention_mask, batch.labels)} == {torch.int64}


def test_collate_needs_a_row() -> None:
    with pytest.raises(ValueError, match="at least one example"):
        collate([])


def of_epoch(steps: list[Step], epoch: int) -> list[int]:
    return [row for s in steps if s.epoch == epoch for micro in s.micro_batches for row in micro]


@given(
    lengths=st.lists(st.integers(0, 3000), min_size=1, max_size=40),
    batch_size=st.integers(1, 50),
    micro_batch_size=st.none() | st.integers(1, 60),
    epochs=st.integers(1, 3),
)
@settings(deadline=None, max_examples=60, database=None)
def test_every_row_once_an_epoch(
    lengths: list[int], batch_size: int, micro_batch_size: int | None, epochs: int
) -> None:
    steps = plan_batches(
        lengths, batch_size=batch_size, micro_batch_size=micro_batch_size, epochs=epochs, seed=1
    )
    assert len(steps) == epochs * math.ceil(len(lengths) / batch_size)
    for epoch in range(epochs):
        assert sorted(of_epoch(steps, epoch)) == list(range(len(lengths)))
    for step in steps:
        assert 1 <= sum(map(len, step.micro_batches)) <= batch_size
        for micro in step.micro_batches:
            assert micro
            longest = max(lengths[row] for row in micro)
            if micro_batch_size is not None:
                assert len(micro) <= micro_batch_size
            elif len(micro) > 1:
                assert len(micro) * longest <= MICRO_BATCH_TOKENS


def test_the_seed_alone_settles_the_order() -> None:
    def plan(seed: int) -> list[Step]:
        return plan_batches([3] * 20, batch_size=4, epochs=2, seed=seed)

    assert plan(0) == plan(0)
    assert plan(0) != plan(1)
    assert of_epoch(plan(0), 0) != of_epoch(plan(0), 1)


def test_micro_batches_do_not_change_which_rows_make_a_step() -> None:
    def rows_of(size: int | None) -> list[set[int]]:
        steps = plan_batches(range(1, 21), batch_size=8, micro_batch_size=size, epochs=1, seed=3)
        return [{row for micro in step.micro_batches for row in micro} for step in steps]

    assert rows_of(None) == rows_of(1) == rows_of(3) == rows_of(8)


def test_part_of_an_epoch_is_that_share_of_its_steps() -> None:
    def steps(epochs: float) -> list[Step]:
        return plan_batches([1] * 100, batch_size=10, epochs=epochs, seed=0)

    assert [len(steps(e)) for e in (0.01, 0.5, 1, 1.1, 2.3)] == [1, 5, 10, 11, 23]
    assert steps(0.5) == steps(1)[:5]


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"micro_batch_size": 0}, {"micro_batch_size": -1}, {"epochs": 0}]
)
def test_sizes_must_be_positive(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        plan_batches([1, 2], **{"batch_size": 2, **wrong})
    with pytest.raises(ValueError, match="no rows"):
        plan_batches([], batch_size=2)


def rows_of(*rows: list[int]) -> list[Example]:
    return [Example(row, [n % 2 == 1 for n in range(len(row))], f"f:{row}") for row in rows]


small_rows = st.lists(st.lists(st.integers(0, 2), max_size=7), min_size=1, max_size=30)


@given(
    rows=small_rows,
    batch_size=st.integers(1, 8),
    micro_batch_size=st.none() | st.integers(1, 8),
    epochs=st.sampled_from([0.3, 1, 1.5, 3]),
    cut=st.integers(0, 40),
)
@settings(deadline=None, max_examples=80, database=None)
def test_a_plan_knows_before_the_first_step_what_the_steps_come_to(
    rows: list[list[int]],
    batch_size: int,
    micro_batch_size: int | None,
    epochs: float,
    cut: int,
) -> None:
    examples = rows_of(*rows)
    sizes = {"batch_size": batch_size, "micro_batch_size": micro_batch_size, "epochs": epochs}
    plan = BatchPlan(examples, seed=5, **sizes)
    steps = plan_batches([len(row) for row in rows], seed=5, **sizes)
    assert list(plan) == steps
    assert list(plan[cut:]) == steps[cut:]
    for part, expected in ((plan, steps), (plan[cut:], steps[cut:])):
        micro_batches = [micro for step in expected for micro in step.micro_batches]
        used = [n for micro in micro_batches for n in micro]
        assert len(part) == len(expected)
        assert part.num_tokens == sum(len(rows[n]) for n in used)
        assert part.num_loss_tokens == sum(sum(examples[n].loss_mask[1:]) for n in used)
        assert part.num_unique_tokens == part.num_tokens  # padded
        assert count_unique_tokens(plan._rows, micro_batches) == sum(
            len({tuple(rows[n][: i + 1]) for n in micro for i in range(len(rows[n]))})
            for micro in micro_batches
        )


def test_a_plan_gives_a_step_by_its_number_alone() -> None:
    examples = rows_of(*([n] * (n % 5 + 1) for n in range(50)))
    plan = BatchPlan(examples, batch_size=4, epochs=3, seed=1)
    backwards = [plan[number] for number in reversed(range(len(plan)))]
    assert backwards[::-1] == list(BatchPlan(examples, batch_size=4, epochs=3, seed=1))
    assert plan[-1] == backwards[0]
    assert list(plan[7:][3:5]) == [plan[10], plan[11]]
    with pytest.raises(IndexError):
        plan[len(plan)]


def test_ids_beyond_a_byte_are_sorted_as_ids() -> None:
    """Sorted by little-endian bytes, 256 would stand between 1 and 2, and 1's rows apart."""
    rows = EncodedRows.of(rows_of([1, 1, 7], [256, 1], [1, 1, 300], [257, 9], [256, 1, 4]))
    assert count_unique_tokens(rows, [[0, 1, 2, 3, 4]]) == 4 + 3 + 2


def test_a_plan_says_its_counts_in_a_line() -> None:
    rows = rows_of([1, 2, 3], [1, 2, 4])
    described = BatchPlan(rows, batch_size=2, is_tree=True).describe()
    assert described["summary"] == ("1 step, 6 tokens (4 unique after shared prefixes), 2 learned")
    assert described["num_unique_tokens"] == 4
    padded = BatchPlan(rows, batch_size=2).describe()
    assert padded["summary"] == "1 step, 6 tokens, 2 learned"
    assert padded["num_unique_tokens"] == 6


def test_a_plan_refuses_what_plan_batches_refuses() -> None:
    with pytest.raises(ValueError, match="no rows"):
        BatchPlan([], batch_size=2)
    with pytest.raises(ValueError, match="must be positive"):
        BatchPlan(rows_of([1]), batch_size=2, epochs=0)


def test_the_trees_of_a_step_are_of_like_size_and_within_the_limit():
    rows = EncodedRows.of([Example([1, 2, 3, *range(n, n + 9)], [True] * 12) for n in range(40)])
    ordered = sort_rows(rows, range(40))
    groups = group_by_starts(rows, ordered, trunk=3, max_tokens=200)
    sizes = [count_unique_tokens(rows, [group]) - 3 for group in groups]
    assert [n for group in groups for n in group] == ordered
    assert len(sizes) == 2
    assert max(sizes) <= 200 + 9
    assert max(sizes) - min(sizes) <= 9
    assert len(group_by_starts(rows, ordered, max_tokens=5)) == 40  # a longer row stands alone


def test_a_row_that_is_there_twice_is_run_once():
    rows = EncodedRows.of([Example([n, 1, 2], [True] * 3) for n in (4, 4, 5, 5)])
    assert group_by_starts(rows, [0, 1, 2, 3], max_tokens=100) == ((0, 1, 2, 3),)
    assert group_by_starts(rows, [0, 1, 2, 3], max_tokens=3) == ((0, 1), (2, 3))


def questions_on(*documents: int, num_questions: int = 8) -> EncodedRows:
    """Ask 20 ids about each of some documents, after 8 ids that all rows have in common."""
    starts = [[*range(8), *range(1000 * n, 1000 * n + d)] for n, d in enumerate(documents, 1)]
    ids = [[*start, *[500 + n] * 20] for start in starts for n in range(num_questions)]
    return EncodedRows.of([Example(row, [True] * len(row)) for row in ids])


@pytest.mark.parametrize("documents", [(700,), (700, 700), (700, 30, 690, 650)])
def test_a_document_longer_than_a_pass_is_run_once_for_all_its_questions(documents) -> None:
    rows = questions_on(*documents)
    plan = BatchPlan(rows, batch_size=len(rows), is_tree=True, max_tokens=320)
    (step,) = plan
    assert plan.num_unique_tokens == count_unique_tokens(rows, [step.rows])
    assert len(step.micro_batches) == len(documents)


def test_more_questions_than_a_pass_holds_share_their_document_as_a_trunk() -> None:
    rows = questions_on(700, num_questions=40)
    plan = BatchPlan(rows, batch_size=40, is_tree=True, max_tokens=320)
    (step,) = plan
    assert step.trunk == 708
    assert [len(group) for group in step.micro_batches] == [14, 13, 13]
    assert plan.num_unique_tokens == 708 + 40 * 20


def test_more_questions_than_a_pass_holds_on_two_documents_run_each_at_most_twice() -> None:
    rows = questions_on(700, 700, num_questions=40)
    (step,) = BatchPlan(rows, batch_size=80, is_tree=True, max_tokens=320)
    assert [len(group) for group in step.micro_batches] == [20, 20, 20, 20]
