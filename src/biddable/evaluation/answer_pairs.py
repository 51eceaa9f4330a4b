"""Take two sides' answers out of a finished comparison, for a judge or for voters.

Only reads: comparison.json's own figures stay what they are.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biddable.data.readers import read_rows
from biddable.errors import EvaluationError, nearest
from biddable.evaluation.sampling import first_draws
from biddable.evaluation.turns import conversations_of

COMPARISON, SAMPLES = "comparison.json", "samples.jsonl"
_FOLLOW_UP = "\n\n(The answer was read. Then:)\n\n"


@dataclass(frozen=True, slots=True)
class AnswerPair:
    """Hold what two sides said to one item.

    Attributes:
        id: of the item.
        cluster: what it shares with items that are not independent of it.
        category: the kind of task.
        instruction: all that was asked; of a later turn the earlier ones too.
        before: the output of the side that is compared against.
        after: the output of the side that is asked about.
        gap: how much longer ``after`` is than ``before`` in this turn, in characters.
    """

    id: str
    cluster: str
    category: str
    instruction: str
    before: str
    after: str
    gap: int

    @property
    def is_same(self) -> bool:
        """Tell whether there is nothing to choose between."""
        return self.before == self.after


@dataclass(frozen=True, slots=True)
class TwoSides:
    """Hold the pairs of two sides, and what the sides are.

    Attributes:
        folder: of the comparison.
        suite: whose items they are.
        before: the side compared against, as comparison.json names it.
        after: the side asked about.
        models: name of the model of each side.
        pairs: one for each item of the headline's rings; of several draws that of the first seed.
    """

    folder: Path
    suite: str
    before: str
    after: str
    models: dict[str, str]
    pairs: list[AnswerPair]

    def some(self, num_items: int | None, *, seed: int) -> list[AnswerPair]:
        """Draw that many pairs, kept in the suite's order; all, where None or more are wanted."""
        if num_items is None or num_items >= len(self.pairs):
            return self.pairs
        places = random.Random(seed).sample(range(len(self.pairs)), num_items)
        return [self.pairs[place] for place in sorted(places)]


def read_two_sides(folder: str | Path, *, before: str, after: str) -> TwoSides:
    """Read the answers of two sides of a comparison.

    Args:
        folder: that `biddable compare` wrote.
        before: name of a side, as ``base`` or that of a further model.
        after: name of another.

    Raises:
        EvaluationError: it is no such folder, or lacks a side.
        DataError: samples.jsonl cannot be read.
    """
    place = Path(folder)
    comparison = _read_comparison(place / COMPARISON)
    rows = [_flat(row) for row in first_draws(row for _, row in read_rows(place / SAMPLES))]
    for name in (before, after):
        known = _sides_of(rows[0])
        if name not in known:
            raise EvaluationError(
                f'{place / SAMPLES}: has no side "{name}"; there are {", ".join(known)}.'
                f"{nearest(name, known)}"
            )
    if before == after:
        raise EvaluationError(f'"{before}" against itself; name two sides.')
    rings = comparison.get("headline_rings")
    try:
        pairs = [
            _pair_of(turns[: n + 1], (before, after))
            for turns in conversations_of(rows)
            for n, row in enumerate(turns)
            if not rings or row.get("ring", rings[0]) in rings
        ]
    except (KeyError, TypeError) as error:
        raise EvaluationError(
            f"{place / SAMPLES}: a row lacks {error}; compare again to write it anew."
        ) from error
    if not pairs:
        raise EvaluationError(f"{place / SAMPLES}: has no item of the headline's rings {rings}.")
    models = {name: _model_of(comparison, name) for name in (before, after)}
    return TwoSides(place, str(comparison.get("suite", "")), before, after, models, pairs)


def _read_comparison(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EvaluationError(
            f"{path}: not there; expected a folder that `biddable compare` wrote."
        ) from error
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path}: cannot be read as JSON ({error}).") from error
    if not isinstance(found, dict) or "base_model" not in found:
        raise EvaluationError(f"{path}: no comparison; expected what `biddable compare` wrote.")
    return found


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, **(row.get("extra_models") or {})}


def _sides_of(row: Mapping[str, Any]) -> list[str]:
    return [name for name, told in row.items() if isinstance(told, dict) and "output" in told]


def _model_of(comparison: Mapping[str, Any], side: str) -> str:
    key = "instruct_model" if side == "instruct" else "base_model"
    is_own = side.startswith("base") or side == "instruct"
    return str(comparison[key]) if is_own and key in comparison else side


def _pair_of(turns: Sequence[Mapping[str, Any]], sides: Sequence[str]) -> AnswerPair:
    """Take the last of these turns; each side is judged in its own conversation."""
    row = turns[-1]
    before, after = (_FOLLOW_UP.join(turn[side]["output"].strip() for turn in turns)
                     for side in sides)  # fmt: skip
    lengths = [len(row[side]["output"].strip()) for side in sides]
    return AnswerPair(
        id=str(row["id"]),
        cluster=str(row.get("cluster", row["id"])),
        category=str(row.get("category", "")),
        instruction=_FOLLOW_UP.join(turn["instruction"] for turn in turns),
        before=before,
        after=after,
        gap=lengths[1] - lengths[0],
    )
