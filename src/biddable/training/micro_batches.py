"""Cut steps into micro-batches that fit the memory; which rows make up a step stays as planned.

The loss of a step is a sum divided once, so smaller micro-batches come to the same gradient: only
the time they take differs. The first size comes from what is free; when memory runs out all the
same, the step is taken again in halves, before any weight was touched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from biddable.data.batching import Batch, Step, collate
from biddable.data.encoded import EncodedRows
from biddable.data.trees import shared_lengths
from biddable.errors import TrainingError
from biddable.models.head import Body
from biddable.models.loss import logits_at_once
from biddable.training.kept import kept_for_gradient
from biddable.training.memory import free_memory
from biddable.training.run_state import random_state, set_random_state

Group = tuple[int, ...]
Result = TypeVar("Result")

# Attention in trees and the backward pass need room beside what the forward pass of one row keeps;
# found on mimic, where 1.2 is enough for all parameters and 2.2 for an adapter.
_ROOM_FOR_BACKWARD = 2.2
_USABLE = 0.9  # of what is free; other programs live here too
_STEPS_LOOKED_AT = 16  # for the planned size of micro-batches
_COPIES_OF_LOGITS = 2  # themselves, and their gradient
_STATES_PER_WEIGHT = 3  # its gradient and the optimizer's two moments


class FittingCuts:
    """Hold the largest micro-batch that is tried, and make it smaller when memory runs out."""

    def __init__(
        self, rows: EncodedRows, *, is_tree: bool, tell: Callable[[dict[str, Any]], None]
    ) -> None:
        """Start without a limit.

        Args:
            rows: of which there are micro-batches.
            is_tree: the rows of a micro-batch stand as `sort_rows` has them, and what they have
                in common at their start is run once; else they are padded to the longest.
            tell: is given a ``note`` whenever micro-batches become smaller.
        """
        self._rows, self._is_tree, self._tell = rows, is_tree, tell
        self.limit: int | None = None  # tokens run in a micro-batch; None: as planned

    def choose_start(
        self,
        model: nn.Module,
        *,
        steps: Sequence[Step],
        from_the_cut: Callable[[Batch, Sequence[int]], AbstractContextManager[None]],
    ) -> None:
        """Measure what a token takes in a forward pass, and set the first limit by it.

        Args:
            model: as it will be trained; nothing of it is changed.
            steps: the plan of the run.
            from_the_cut: lets it start where layers begin to train, for a batch and its rows.
        """
        device = next(model.parameters()).device
        shortest = self._rows.lengths.argsort(kind="stable")[:2].tolist()
        # weights that a pass holds in bfloat16 beside the activations do not grow with its rows
        num_passes = 2 if torch.is_autocast_enabled(device.type) else 1
        sizes, kept = [0], [0]
        for numbers in (shortest[:1], shortest)[:num_passes]:
            batch = collate([self._rows[n] for n in numbers])
            ids = batch.input_ids.to(device)
            with from_the_cut(batch, numbers):
                run = partial(Body(model).states, input_ids=ids)
                kept.append(activation_bytes(model, run))
            sizes.append(ids.numel())
        each = (kept[-1] - kept[-2]) / max(sizes[-1] - sizes[-2], 1)
        fixed = max(round(kept[-1] - each * sizes[-1]), 0)
        groups = [group for step in steps[:_STEPS_LOOKED_AT] for group in step.micro_batches]
        self.start_from(free_for_activations(model) - fixed, each, groups)

    def start_from(self, num_free: int, bytes_per_token: float, groups: Sequence[Group]) -> None:
        """Set the first limit, if the planned micro-batches would not fit into the free memory.

        Args:
            num_free: bytes for activations; may be negative.
            bytes_per_token: of activations.
            groups: some planned micro-batches.
        """
        fitting = max(int(num_free / max(bytes_per_token, 1)), 1)
        largest = max(map(self._size, groups))
        if fitting < largest:
            self.limit = fitting
            self._note(
                f"{max(num_free, 0) / 1e9:.1f} GB are free for micro-batches, so they have up to"
                f" {fitting:,} tokens each, not {largest:,}"
            )

    def cut(self, groups: Sequence[Group]) -> list[Group]:
        """Cut planned micro-batches to the limit; rows keep their order.

        Args:
            groups: rows of each.

        Returns:
            Micro-batches of at most the limit; a row that is longer by itself stands alone.
        """
        if self.limit is None:
            return list(groups)
        cut: list[Group] = []
        for group in groups:
            start = 0
            for end in range(1, len(group)):
                if self._size(group[start : end + 1]) > self.limit:
                    cut.append(group[start:end])
                    start = end
            cut.append(group[start:])
        return cut

    def fit(self, groups: Sequence[Group], attempt: Callable[[Sequence[Group]], Result]) -> Result:
        """Try a step in smaller and smaller micro-batches until it fits.

        Args:
            groups: the planned micro-batches.
            attempt: does it all from the start, touching no weight.

        Returns:
            What the attempt that came through returned.

        Raises:
            TrainingError: memory does not suffice for a single row.
        """
        before = random_state(_devices())
        while True:
            tried = self.cut(groups)
            try:
                return attempt(tried)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            # outside of the clause above, for the error holds the tensors of the failed attempt
            set_random_state(before)
            self._halve(tried)

    def _halve(self, tried: Sequence[Group]) -> None:
        if all(len(group) == 1 for group in tried):
            (longest,) = max(tried, key=self._size)
            name = self._rows.sources[longest] or f"row {longest + 1}"
            raise TrainingError(
                f"the memory does not suffice for one row of {self._rows.lengths[longest]:,} tokens"
                f" ({name}). Lower data.max_seq_len, train an adapter (method: lora) or the upper"
                " layers (method: freeze), or use a smaller model."
            )
        largest = max(map(self._size, tried))
        self.limit = largest // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # blocks of the old sizes would be in the way
        self._note(
            f"out of memory with micro-batches of up to {largest:,} tokens; the step is taken again"
            f" with up to {self.limit:,}. Rows, steps and the gradient stay as planned"
        )

    def _size(self, group: Group) -> int:
        """Count the tokens that a micro-batch runs."""
        lengths = self._rows.lengths[list(group)]
        if self._is_tree:
            return int(lengths.sum() - shared_lengths(self._rows, group).sum())
        return len(group) * int(lengths.max())

    def _note(self, text: str) -> None:
        self._tell({"event": "note", "text": text})


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory ran out, on a GPU or for this process."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text


def free_for_activations(model: nn.Module) -> int:
    """Tell how many bytes are left once gradients, optimizer and logits have theirs."""
    trained = [p for p in model.parameters() if p.requires_grad]
    num_bytes = sum(p.numel() * p.element_size() for p in trained)
    device = next(model.parameters()).device
    logits = _COPIES_OF_LOGITS * 4 * logits_at_once(device)
    return int(_USABLE * free_memory(device)) - _STATES_PER_WEIGHT * num_bytes - logits


def activation_bytes(model: nn.Module, run: Callable[[], Any]) -> int:
    """Count what a backward pass would need after this forward pass; nothing is left changed.

    Args:
        model: its parameters are not counted.
        run: a forward pass.

    Returns:
        Bytes of what autograd keeps, with the room that the backward pass takes beside it.
    """
    before = random_state(_devices())
    kept = kept_for_gradient(model, run)
    set_random_state(before)
    return int(_ROOM_FOR_BACKWARD * kept)


def _devices() -> list[int]:
    """Name the GPU whose generator dropout draws from; none where no GPU is used."""
    return [torch.cuda.current_device()] if torch.cuda.is_initialized() else []


def shares(
    groups: Sequence[Group], lengths: Sequence[int] | NDArray[np.int64], num_processes: int
) -> list[list[Group]]:
    """Cut micro-batches, row after row, into one part of about equal tokens for each process.

    Rows keep their order, for neighbours have their start in common. A part may be empty.

    Args:
        groups: rows of each micro-batch.
        lengths: of all rows, in tokens.
        num_processes: 1 or more.

    Example:
        >>> shares([(0, 1), (2,)], [4, 2, 3], 2)
        [[(0,)], [(1,), (2,)]]
    """
    rows = [row for group in groups for row in group]
    counts = np.array([lengths[row] for row in rows], np.int64)
    middles = counts.cumsum() - counts / 2
    ranks = dict(zip(rows, num_processes * middles // max(counts.sum(), 1), strict=True))
    found = []
    for rank in range(num_processes):
        own = [tuple(row for row in group if ranks[row] == rank) for group in groups]
        found.append([group for group in own if group])
    return found
