"""Plan which rows make up each optimizer step, and pad the rows of a micro-batch into tensors.

The plan is made of indices alone and depends on nothing but its arguments, so that a run can be
repeated and resumed. Every row is used once in an epoch; none is dropped.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from biddable.data.encoding import IGNORE_INDEX, Example, labels_from_mask

MICRO_BATCH_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Batch:
    """Hold a padded micro-batch.

    Attributes:
        input_ids: (B, T), int64, padded on the right.
        attention_mask: (B, T), int64, 1 where a row has a token of its own.
        labels: (B, T), int64, not shifted; ``IGNORE_INDEX`` where nothing is learned.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True)
class Step:
    """Say which rows make up one optimizer step.

    Attributes:
        epoch: counted from 0.
        micro_batches: indices of rows, a tuple for each forward pass.
    """

    epoch: int
    micro_batches: tuple[tuple[int, ...], ...]


def collate(examples: Sequence[Example], pad_id: int = 0) -> Batch:
    """Pad examples on the right to the longest of them.

    What is padding is known by position, so ``pad_id`` may be any id, the stop token's as well.

    Args:
        examples: B rows, at least one.
        pad_id: put after the end of shorter rows.

    Returns:
        Tensors of (B, T), T the longest row.

    Raises:
        ValueError: there are no examples.
    """
    if not examples:
        raise ValueError("a batch needs at least one example.")
    return Batch(
        input_ids=_pad([example.input_ids for example in examples], pad_id),
        attention_mask=_pad([[1] * len(example.input_ids) for example in examples], 0),
        labels=_pad([labels_from_mask(e.input_ids, e.loss_mask) for e in examples], IGNORE_INDEX),
    )


def plan_batches(
    lengths: Sequence[int],
    *,
    batch_size: int,
    micro_batch_size: int | None = None,
    epochs: float = 1,
    seed: int = 0,
) -> list[Step]:
    """Plan all optimizer steps of a run.

    Args:
        lengths: ids in each row.
        batch_size: rows in a step; the last step of an epoch may have fewer.
        micro_batch_size: rows in a forward pass. None: as many as fit ``MICRO_BATCH_TOKENS``
            padded tokens. Rows of like length are put together either way.
        epochs: passes over the rows; of a part of one, that share of its steps, rounded up.
        seed: the order of rows, another one in each epoch.

    Returns:
        The steps in order.

    Raises:
        ValueError: there are no rows, or a size or ``epochs`` is not positive.

    Example:
        >>> for step in plan_batches([5, 3, 4], batch_size=2, epochs=1, seed=0):
        ...     print(step.epoch, step.micro_batches)
        0 ((1, 0),)
        0 ((2,),)
    """
    if not lengths:
        raise ValueError("there are no rows to plan for.")
    if min(batch_size, micro_batch_size or 1) < 1 or epochs <= 0 or micro_batch_size == 0:
        raise ValueError("batch_size, micro_batch_size and epochs must be positive.")
    steps: list[Step] = []
    steps_per_epoch = math.ceil(len(lengths) / batch_size)
    for epoch in range(math.ceil(epochs)):
        order = list(range(len(lengths)))
        random.Random(f"{seed}:{epoch}").shuffle(order)
        for start in range(0, len(order), batch_size):
            rows = sorted(order[start : start + batch_size], key=lambda row: lengths[row])
            steps.append(Step(epoch, _micro_batches(rows, lengths, micro_batch_size)))
    return steps[: math.ceil(round(epochs * steps_per_epoch, 6))]


def _micro_batches(
    rows: Sequence[int], lengths: Sequence[int], size: int | None
) -> tuple[tuple[int, ...], ...]:
    """Group rows that are sorted by length, so that the last of a group is its longest."""
    groups: list[list[int]] = []
    for row in rows:
        limit = size or max(MICRO_BATCH_TOKENS // max(lengths[row], 1), 1)
        if groups and len(groups[-1]) < limit:
            groups[-1].append(row)
        else:
            groups.append([row])
    return tuple(tuple(group) for group in groups)


def _pad(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=value)
