"""Plan which rows make up each optimizer step, and pad the rows of a micro-batch into tensors.

The plan is made of indices alone and depends on nothing but its arguments, so that a run can be
repeated and resumed. Every row is used once in an epoch; none is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from biddable.counting import counted
from biddable.data.encoded import EncodedRows
from biddable.data.encoding import IGNORE_INDEX, Example, labels_from_mask
from biddable.data.grouping import by_kind, group_by_starts
from biddable.data.together import find_bunches, shuffle_together
from biddable.data.trees import common_start, shared_lengths, sort_rows

MICRO_BATCH_TOKENS = 4096
_MIN_TRUNK = 8  # a shorter common start is not worth a pass of its own
_STEPS_AT_ONCE = 256  # whose prefix trees are counted in one go


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

    def to(self, device: torch.device) -> Batch:
        """Copy the tensors to a device."""
        return Batch(*(getattr(self, name).to(device) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Step:
    """Say which rows make up one optimizer step.

    Attributes:
        epoch: counted from 0.
        micro_batches: indices of rows, a tuple for each forward pass.
        trunk: how many first ids all rows have in common that are run in a pass of their own.
    """

    epoch: int
    micro_batches: tuple[tuple[int, ...], ...]
    trunk: int = 0

    @property
    def rows(self) -> list[int]:
        """The rows of all micro-batches."""
        return list(chain.from_iterable(self.micro_batches))


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
    order = _Order(lengths, batch_size=batch_size, micro_batch_size=micro_batch_size, seed=seed)
    return [order.step(number) for number in range(order.num_steps(epochs))]


class BatchPlan(Sequence[Step]):
    """Know all steps of a run before the first, in the room of one epoch's order of rows.

    A step is made when it is asked for, from the seed and its number alone: ``plan[k:]`` is what is
    left after ``k`` steps, whoever asks. All counts are of the steps in this plan.

    Attributes:
        is_cut_by_tokens: how many rows a forward pass has was not given.
        num_kept_together: rows that are shuffled as one with others; None if that was not asked.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        *,
        batch_size: int,
        micro_batch_size: int | None = None,
        epochs: float = 1,
        seed: int = 0,
        is_tree: bool = False,
        max_tokens: int = MICRO_BATCH_TOKENS,
        kinds: Sequence[int] | None = None,
    ) -> None:
        """Plan a run; see ``plan_batches``.

        Args:
            examples: the rows.
            batch_size: rows in a step.
            micro_batch_size: rows in a forward pass; None: as many as fit.
            epochs: passes over the rows.
            seed: the order of rows.
            is_tree: rows that begin alike are put into one forward pass, which is to hold each
                token of theirs once, instead of rows of like length.
            max_tokens: ids of a forward pass, padding included, unless its rows were given; a
                longer row stands alone.
            kinds: a number for each row: those whose numbers differ share no forward pass, and a
                step with any but 0 runs no common start by itself. None: all are 0.

        Raises:
            ValueError: there are no rows, or a size or ``epochs`` is not positive.
        """
        self._rows = EncodedRows.of(examples)
        self._order = _Order(
            self._rows.lengths.tolist(),
            batch_size=batch_size,
            micro_batch_size=micro_batch_size,
            seed=seed,
            max_tokens=max_tokens,
            kinds=kinds,
        )
        self._is_tree = is_tree
        self.is_cut_by_tokens = micro_batch_size is None
        self.num_kept_together: int | None = None
        self._numbers = range(self._order.num_steps(epochs))

    def keeping_together(self) -> BatchPlan:
        """Give as many steps of the same rows, those that begin alike being in the same ones."""
        if self.num_kept_together is not None:
            return self
        plan = copy(self)
        plan._order = self._order.of_bunches(find_bunches(self._rows, self._order.batch_size))
        plan.num_kept_together = sum(map(len, plan._order.bunches))
        return plan

    def __len__(self) -> int:
        """Count the steps."""
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Step: ...
    @overload
    def __getitem__(self, index: slice) -> BatchPlan: ...
    def __getitem__(self, index: int | slice) -> Step | BatchPlan:
        """Give one step, or the plan of some."""
        if isinstance(index, slice):
            part = copy(self)
            part._numbers = self._numbers[index]
            return part
        return self._order.step(self._numbers[index], self._rows if self._is_tree else None)

    @property
    def num_tokens(self) -> int:
        """Count the ids, padding apart; a row counts once an epoch."""
        return self._total(self._rows.lengths)

    @property
    def num_loss_tokens(self) -> int:
        """Count the tokens that are learned."""
        return self._total(self._rows.loss_tokens)

    @property
    def num_unique_tokens(self) -> int:
        """Count the tokens that are left where rows of a micro-batch share their common starts."""
        if not self._is_tree:
            return self.num_tokens
        total = 0
        for start in range(0, len(self), _STEPS_AT_ONCE):
            for step in self[start : start + _STEPS_AT_ONCE]:
                total += count_unique_tokens(self._rows, step.micro_batches)
                total -= step.trunk * (len(step.micro_batches) - 1)
            self._rows.forget()
        return total

    def describe(self) -> dict[str, Any]:
        """Give all counts, and a line that says them."""
        counts = {
            "num_steps": len(self),
            "num_tokens": self.num_tokens,
            "num_loss_tokens": self.num_loss_tokens,
            "num_unique_tokens": self.num_unique_tokens,
        }
        left = f" ({counts['num_unique_tokens']:,} unique after shared prefixes)"
        summary = (
            f"{counted(len(self), 'step')}, {counted(self.num_tokens, 'token')}"
            f"{left if self._is_tree else ''}, {counts['num_loss_tokens']:,} learned"
        )
        if self.num_kept_together is not None:
            kept = counted(self.num_kept_together, "row")
            summary += f"; {kept} kept with those that begin alike"
        return {"summary": summary, **counts}

    def _total(self, counts: NDArray[np.int64] | NDArray[np.int32]) -> int:
        """Add up what each row counts for, over the rows of all steps."""
        order = self._order
        total = 0
        for _, numbers in groupby(self._numbers, lambda number: number // order.steps_per_epoch):
            chosen = list(numbers)
            if len(chosen) == order.steps_per_epoch:
                total += int(counts.sum(dtype=np.int64))
            else:
                rows = list(chain.from_iterable(map(order.rows, chosen)))
                total += int(counts[rows].sum(dtype=np.int64))
        return total


def count_unique_tokens(rows: EncodedRows, groups: Sequence[Sequence[int]]) -> int:
    """Count the nodes of the prefix tree of each group of rows.

    Args:
        rows: the examples.
        groups: numbers of rows; a micro-batch each.

    Returns:
        The sum over the groups: the ids of all rows, less those of each start that a row has in
        common with the one before it, the rows of a group being sorted by their ids.

    Example:
        >>> rows = EncodedRows.of([Example([1, 2, i], [False, True, True]) for i in (3, 4)])
        >>> count_unique_tokens(rows, [[0, 1]]), count_unique_tokens(rows, [[0], [1]])
        (4, 6)
    """
    return sum(
        int(rows.lengths[ordered].sum() - shared_lengths(rows, ordered).sum())
        for ordered in (sort_rows(rows, group) for group in groups)
    )


class _Order:
    """Say which rows make up a step, holding the order of one epoch at a time."""

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        batch_size: int,
        micro_batch_size: int | None,
        seed: int,
        max_tokens: int = MICRO_BATCH_TOKENS,
        kinds: Sequence[int] | None = None,
    ) -> None:
        if not lengths:
            raise ValueError("there are no rows to plan for.")
        if min(batch_size, micro_batch_size or 1) < 1 or micro_batch_size == 0:
            raise ValueError(_NOT_POSITIVE)
        self._lengths, self._seed = lengths, seed
        self.batch_size, self._micro_batch_size = batch_size, micro_batch_size
        self._max_tokens, self._kinds = max_tokens, kinds
        self._epoch, self._shuffled = -1, np.zeros(0, np.int64)
        self.bunches: Sequence[Sequence[int]] = ()
        self.steps_per_epoch = math.ceil(len(lengths) / batch_size)

    def of_bunches(self, bunches: Sequence[Sequence[int]]) -> _Order:
        """Shuffle the rows of each bunch as one."""
        order = copy(self)
        order.bunches, order._epoch = bunches, -1
        return order

    def num_steps(self, epochs: float) -> int:
        if epochs <= 0:
            raise ValueError(_NOT_POSITIVE)
        return math.ceil(round(epochs * self.steps_per_epoch, 6))

    def rows(self, number: int) -> list[int]:
        epoch, number = divmod(number, self.steps_per_epoch)
        if epoch != self._epoch:
            seed, size = f"{self._seed}:{epoch}", self.batch_size
            order = shuffle_together(len(self._lengths), self.bunches, size=size, seed=seed)
            self._epoch, self._shuffled = epoch, np.array(order)
        start = number * self.batch_size
        rows: list[int] = self._shuffled[start : start + self.batch_size].tolist()
        return rows

    def step(self, number: int, trees_of: EncodedRows | None = None) -> Step:
        limits, trunk = (self._micro_batch_size, self._max_tokens), 0
        groups: list[tuple[int, ...]] = []
        rows = self.rows(number)
        if trees_of is None:
            ordered = sorted(rows, key=self._lengths.__getitem__)
            for part in by_kind(ordered, self._kinds):
                groups += _micro_batches(part, self._lengths, *limits)
        else:
            ordered = sort_rows(trees_of, rows)
            may_share = not self._kinds or not any(self._kinds[n] for n in rows)
            trunk = _trunk(trees_of, ordered) if may_share else 0
            for part in by_kind(ordered, self._kinds):
                size, most = limits
                groups += group_by_starts(trees_of, part, size, trunk=trunk, max_tokens=most)
            trunk = trunk if len(groups) > 1 else 0
        return Step(number // self.steps_per_epoch, tuple(groups), trunk)


_NOT_POSITIVE = "batch_size, micro_batch_size and epochs must be positive."


def _micro_batches(
    rows: Sequence[int], lengths: Sequence[int], size: int | None, max_tokens: int
) -> tuple[tuple[int, ...], ...]:
    """Group rows that are sorted by length, so that the last of a group is its longest."""
    groups: list[list[int]] = []
    for row in rows:
        limit = size or max(max_tokens // max(lengths[row], 1), 1)
        if groups and len(groups[-1]) < limit:
            groups[-1].append(row)
        else:
            groups.append([row])
    return tuple(tuple(group) for group in groups)


def _trunk(rows: EncodedRows, ordered: Sequence[int]) -> int:
    """Say how long a common start it pays to run by itself, should there be several groups."""
    trunk = common_start(rows, ordered)
    return trunk if trunk >= _MIN_TRUNK else 0


def _pad(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=value)
