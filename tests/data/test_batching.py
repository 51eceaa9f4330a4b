"""Padding and the plan of steps: nothing lost, nothing doubled, nothing padded into the loss."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biddable.data.batching import MICRO_BATCH_TOKENS, Step, collate, plan_batches
from biddable.data.encoding import Example


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
