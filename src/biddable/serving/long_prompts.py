"""Read long prompts piece by piece: answers that are being written go on between two pieces."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedModel

from biddable.models.running_rows import RunningRows
from biddable.serving.writing import Row

_PIECE = 256  # ids; a longer prompt is read so many at a time
_WORTH_TAKING = 64  # ids of a common start; fewer are as quickly read as copied


@dataclass(slots=True)
class _Reading:
    row: Row
    batch: RunningRows
    num_read: int = 0


class LongPrompts:
    """Hold the prompts that are being read, in the order they came."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Start with none."""
        self._model = model
        self._queue: deque[_Reading] = deque()

    @property
    def rows(self) -> list[Row]:
        """List the answers whose prompts are being read."""
        return [reading.row for reading in self._queue]

    def add(self, row: Row) -> None:
        """Take a prompt."""
        self._queue.append(_Reading(row, RunningRows(self._model)))

    def drop_ended(self) -> None:
        """Forget the prompts of answers that were given up."""
        self._queue = deque(each for each in self._queue if not each.row.writing.has_ended)

    def read_on(self) -> tuple[Row, RunningRows, Tensor] | None:
        """Read one more piece of the first prompt; a failure ends its answer, and no other.

        Returns:
            Once it is whole: the answer, its row, and the logits (1, V) that follow.
        """
        first, ids = self._queue[0], self._queue[0].row.asked.ids
        piece = ids[first.num_read : first.num_read + _PIECE]
        try:
            logits = first.batch.read_more(piece)
        except Exception as error:  # what a model's code raises
            self._queue.popleft()
            first.row.fail(error)
            return None
        first.num_read += len(piece)
        if first.num_read < len(ids):
            return None
        self._queue.popleft()
        for other in self._queue:  # they need not read again what all start with
            shared = _num_shared(ids, other.row.asked.ids)
            if shared >= other.num_read + _WORTH_TAKING:
                other.batch, other.num_read = first.batch.copy_start(shared), shared
        return first.row, first.batch, logits


def is_long(ids: Sequence[int]) -> bool:
    """Tell whether a prompt takes so long to read that others should not wait for it."""
    return len(ids) > _PIECE


def _num_shared(ids: Sequence[int], others: Sequence[int]) -> int:
    """Count the ids that both start with, at least the last of ``others`` left out.

    Example:
        >>> _num_shared([1, 2, 3], [1, 2, 4]), _num_shared([1, 2, 3], [1, 2])
        (2, 1)
    """
    most = min(len(ids), len(others) - 1)
    return next((n for n in range(most) if ids[n] != others[n]), most)
