"""What is measured: parts of a micro-batch, the fit of their times, the peak of memory."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from biddable.data.encoded import EncodedRows
from biddable.data.encoding import Example
from biddable.training import measuring
from biddable.training.measuring import (
    Sample,
    fit_seconds,
    growing_parts,
    optimizer_seconds,
    peak_during,
)
from tests.tiny import tiny_model

CPU = torch.device("cpu")


def sample(work: float, seconds: float) -> Sample:
    return Sample(work, seconds)


def test_one_long_row_is_measured_by_its_end():
    ids = list(range(1000))
    rows = EncodedRows.of([Example(ids, [False] * 990 + [True] * 10)])
    parts = growing_parts(rows, [0])
    assert [len(part.input_ids) for part in parts] == [32, 125, 250, 500, 1000]
    assert all(part.input_ids[-1] == 999 for part in parts)
    assert all(part.loss_tokens[0] == 10 for part in parts)


def test_rows_shorter_than_the_least_part_are_taken_whole():
    rows = EncodedRows.of([Example([1, 2, 3], [False, True, True])] * 2)
    assert [len(part) for part in growing_parts(rows, [0, 1])] == [1, 2]


def test_times_that_fall_with_the_work_are_no_constant_below_nothing():
    each, rate = fit_seconds([sample(100, 1.0), sample(1000, 20.0)])
    assert (each, rate) == (0.0, 1100 / 21)
    assert fit_seconds([sample(100, 2.0)]) == (0.0, 50.0)


def test_a_measured_time_is_given_back():
    samples = [sample(work, 0.2 + work / 50) for work in (10.0, 100.0, 1000.0)]
    each, rate = fit_seconds(samples)
    assert each == pytest.approx(0.2)
    assert rate == pytest.approx(50)


@pytest.mark.parametrize("can_reset", [True, False])
def test_the_peak_is_seen_after_it_is_over(can_reset, monkeypatch):
    if not can_reset:  # as on other systems than Linux
        monkeypatch.setattr(measuring, "_reset_peak", lambda: False)
    before = measuring.memory_in_use(CPU)
    with peak_during(CPU) as peak:
        block = torch.ones(50_000_000)
        block.add_(1)
        del block
    assert peak[0] > before + 150_000_000


def test_the_optimizer_is_timed_on_as_many_weights_as_there_are(monkeypatch):
    model = tiny_model()
    assert optimizer_seconds(1000, model) > 0
    monkeypatch.setattr(measuring, "_STAND_IN", 100)
    made = []
    parameter = nn.Parameter
    monkeypatch.setattr(nn, "Parameter", lambda t: made.append(t.numel()) or parameter(t))
    optimizer_seconds(1000, model)
    assert made == [100]
