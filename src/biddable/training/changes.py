"""Find what makes a run fit: each change by itself and, where none is enough, the fewest together.

What a run is, is the caller's: one on this machine (advice.py) or on paper (paper.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Run = TypeVar("Run")

_WORTH = 0.01  # of the peak; what saves less is not told


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Hold one change, or several that are made together.

    Attributes:
        change: what to write into the config, and what comes with it.
        saves: bytes at the peak, by the formulas.
        needed: bytes that are needed then.
        fits: that is enough.
    """

    change: str
    saves: int
    needed: int
    fits: bool


@dataclass(frozen=True, slots=True)
class Changed(Generic[Run]):
    """Hold a run with one thing changed.

    Attributes:
        run: so changed.
        setting: what to write for it.
        effect: what comes with it, in words; empty if it goes without saying.
    """

    run: Run
    setting: str
    effect: str = ""


@dataclass(frozen=True, slots=True)
class Change(Generic[Run]):
    """Hold a way to lower the peak of a run.

    Attributes:
        make: changes a run, which is left as it is; None where that cannot be.
        cost: 0, or more for what is combined with others only where all that cost less are too
            little, as it takes something away that time cannot buy back.
    """

    make: Callable[[Run], Changed[Run] | None]
    cost: int = 0


@dataclass(frozen=True, slots=True)
class Search(Generic[Run]):
    """Look for what makes a run fit.

    Attributes:
        run: as it is.
        changes: of it, in the order in which several are made.
        needed: says what a run needs at its peak, in bytes.
        limit: bytes that there are.
    """

    run: Run
    changes: Sequence[Change[Run]]
    needed: Callable[[Run], int]
    limit: int

    def suggestions(self) -> list[Suggestion]:
        """List the changes that save something, those that suffice first, then by what they save.

        One of them is of several changes together where no single one suffices. It is sized with
        all of them made, as what they save does not add up.
        """
        now = self._made([])
        alone = [self._made([number]) for number in range(len(self.changes))]
        found = [*alone, self._combined(now, alone)]
        told = [
            Suggestion(
                change=_in_words(made.parts),
                saves=now.needed - made.needed,
                needed=made.needed,
                fits=made.needed <= self.limit,
            )
            for made in found
            if made.parts and now.needed - made.needed > _WORTH * now.needed
        ]
        unique = {suggestion.change: suggestion for suggestion in told}  # one may be enough
        return sorted(unique.values(), key=lambda each: (not each.fits, -each.saves))

    def _made(self, numbers: Sequence[int]) -> _Made[Run]:
        """Make changes together, in their order, and size what comes out."""
        run, parts = self.run, []
        for number in sorted(numbers):
            changed = self.changes[number].make(run)
            if changed is not None:
                run = changed.run
                parts.append(changed)
        return _Made(tuple(numbers), parts, self.needed(run))

    def _combined(self, now: _Made[Run], alone: Sequence[_Made[Run]]) -> _Made[Run]:
        """Add the change that saves most, then the next, until it fits; costly ones last."""
        chosen = now
        for cost in sorted({change.cost for change in self.changes}):
            level = [made for made in alone if self.changes[made.numbers[0]].cost == cost]
            for made in sorted(level, key=lambda made: made.needed):
                more = self._made([*chosen.numbers, *made.numbers]) if chosen.parts else made
                chosen = min(chosen, more, key=lambda made: made.needed)
                if chosen.needed <= self.limit:
                    return self._without_idle(chosen)
        return self._without_idle(chosen)

    def _without_idle(self, made: _Made[Run]) -> _Made[Run]:
        """Leave out what later ones have made needless, the costliest and least useful first."""
        enough = max(self.limit, made.needed)
        for number in reversed(made.numbers):
            fewer = self._made([other for other in made.numbers if other != number])
            if fewer.needed <= enough:
                made = fewer
        return made


@dataclass(frozen=True, slots=True)
class _Made(Generic[Run]):
    """Hold what some changes come to; by their numbers, as they were chosen."""

    numbers: tuple[int, ...]
    parts: list[Changed[Run]]
    needed: int


def _in_words(parts: Sequence[Changed[Run]]) -> str:
    *most, last = (part.setting for part in parts)
    settings = f"{', '.join(most)} and {last}" if most else last
    effects = "; ".join(part.effect for part in parts if part.effect)
    return f"{settings}: {effects}" if effects else settings
