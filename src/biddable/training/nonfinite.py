"""Say what becomes of a step whose loss or gradient is no number: the run ends, or goes on without.

Either way nothing of it reaches the weights or the optimizer's moments.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from biddable.data.encoded import EncodedRows
from biddable.errors import TrainingError
from biddable.training.checkpoints import Event
from biddable.training.run_state import RunState

MAX_SKIPPED_IN_ROW = 5  # more than a bad row or two: the run has come apart


class NotFiniteError(Exception):
    """Raised within a step, and caught there.

    Attributes:
        what: the loss or the gradient.
        value: nan or an infinity.
        rows: numbers of the rows that it came from.
    """

    def __init__(self, what: str, value: float, rows: Sequence[int]) -> None:
        """Take what was found."""
        super().__init__(f"{what} is {value}")
        self.what, self.value, self.rows = what, value, rows


def require_finite(value: Tensor, what: str, rows: Sequence[int]) -> None:
    """Refuse a scalar that is no number.

    Raises:
        NotFiniteError: it is not finite.
    """
    if not bool(value.isfinite()):
        raise NotFiniteError(what, value.item(), rows)


def leave_out(
    found: NotFiniteError, state: RunState, examples: EncodedRows, *, may_skip: bool
) -> Event:
    """Count a step as skipped and describe it for the log, or end the run.

    Args:
        found: in the step after those that are done.
        state: its counts of skipped steps go up.
        examples: the rows, for their names.
        may_skip: whether the run may go on.

    Raises:
        TrainingError: it may not, or too many steps in a row were skipped.
    """
    names = [examples[n].source or f"row {n + 1}" for n in found.rows]
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    told = f"step {state.step + 1}: the {found.what} is {found.value}"
    num_before = state.num_skipped_in_row
    if not may_skip or num_before == MAX_SKIPPED_IN_ROW:
        before = f" {num_before} steps in a row were left out before it." if num_before else ""
        anew = f"a lower training.learning_rate (now {state.log.learning_rate:g}) or other rows"
        advice = f"Begin anew with {anew}."
        if not may_skip:
            advice = f"Set training.on_nonfinite: skip to leave it out, or begin anew with {anew}."
        error = TrainingError(
            f"{told}; expected a finite number.{before} The rows of this batch: {shown}. {advice}"
        )
        error.recurs = may_skip
        raise error
    state.num_skipped_in_row += 1
    state.log.num_skipped += 1
    return {"event": "skip", "names": names, "summary": f"{told}; left out, with {shown}"}


def held_out_not_finite(loss: float, state: RunState) -> TrainingError:
    """Describe a held-out loss that is no number; a run that is resumed would measure it again."""
    error = TrainingError(
        f"after step {state.step}: the held-out loss is {loss}; expected a finite number. Begin"
        f" anew with a lower training.learning_rate (now {state.log.learning_rate:g}) or other"
        " held-out rows."
    )
    error.recurs = True
    return error
