"""Say where a run takes place; what it computes does not depend on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from biddable.training.checkpoints import Checkpoints, Event
from biddable.training.distributed import ALONE, World

# Called with the steps taken and whether an epoch ends there; its records are kept in the log.
Samples = Callable[[int, bool], Sequence[Event]]


@dataclass(frozen=True, slots=True)
class Venue:
    """Hold what stands around a run; as it is made, nothing does.

    Attributes:
        checkpoints: where the run saves itself, and goes on from; None saves nothing.
        samples: asked before the first step and after each one for records to keep, as answers.
        world: the processes that take the steps together, opened; all are given the same rows.
    """

    checkpoints: Checkpoints | None = None
    samples: Samples | None = None
    world: World = ALONE


NOWHERE = Venue()
