"""Say how answers are drawn where the likeliest tokens are not taken, and tell draws apart.

An item is answered once for each seed. Its answers are no independent items: what counts them
groups them by their item again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from biddable.errors import EvaluationError
from biddable.evaluation.sample import Sample

NOT_KNOWN = {"method": None, "temperature": None, "max_new_tokens": None}  # of ready responses
_LARGEST_SEED = 2**32 - 2  # llama.cpp takes 32 bits, and the largest value for "any"


@dataclass(frozen=True, slots=True)
class Sampling:
    """Say how tokens are drawn; where there is none, the likeliest ones are taken.

    Attributes:
        temperature: that logits are divided by, above 0.
        top_p: the share of probability that is drawn from, likeliest tokens first.
        seeds: each answers every item once.

    Raises:
        EvaluationError: a value is out of its range.
    """

    temperature: float
    top_p: float = 1.0
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        """Refuse what nothing can be drawn with."""
        problem = None
        if not 0 < self.temperature < float("inf"):
            problem = f"temperature is {self.temperature}; expected more than 0, as 0.7"
        elif not 0 < self.top_p <= 1:
            problem = f"top_p is {self.top_p}; expected more than 0 and at most 1"
        elif not self.seeds or not all(0 <= seed <= _LARGEST_SEED for seed in self.seeds):
            problem = f"seeds are {list(self.seeds)}; expected one or more from 0 to 2**32 - 2"
        elif len(set(self.seeds)) < len(self.seeds):
            problem = f"seeds are {list(self.seeds)}; each must be another, or answers come twice"
        if problem:
            raise EvaluationError(f"sampling: {problem}.")


def decoding_facts(sampling: Sampling | None) -> dict[str, Any]:
    """Say how answers are decoded, as scores.json and comparison.json have it.

    Example:
        >>> decoding_facts(None)
        {'method': 'greedy', 'temperature': 0.0}
        >>> decoding_facts(Sampling(0.7, seeds=(0, 1)))
        {'method': 'sampling', 'temperature': 0.7, 'top_p': 1.0, 'seeds': [0, 1]}
    """
    if sampling is None:
        return {"method": "greedy", "temperature": 0.0}
    drawn = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    return {"method": "sampling", **drawn, "seeds": list(sampling.seeds)}


def each_draw(samples: Sequence[Sample], sampling: Sampling | None) -> list[Sample]:
    """Repeat every item for each seed, the draws of an item side by side."""
    if sampling is None:
        return list(samples)
    return [replace(sample, seed=seed) for sample in samples for seed in sampling.seeds]


def items_of(samples: Iterable[Sample]) -> list[Hashable] | None:
    """Name the item that each draw is of; None where nothing was drawn, and each is its own."""
    given = list(samples)
    is_drawn = any(sample.seed is not None for sample in given)
    return [(sample.source, sample.id) for sample in given] if is_drawn else None


def first_draws(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Keep one row of samples.jsonl for each item: that of its first seed.

    Example:
        >>> first_draws([{"id": "a", "seed": 3}, {"id": "a", "seed": 4}, {"id": "b", "seed": 3}])
        [{'id': 'a', 'seed': 3}, {'id': 'b', 'seed': 3}]
    """
    kept: dict[Any, Mapping[str, Any]] = {}
    for n, row in enumerate(rows):
        is_drawn = row.get("seed") is not None
        kept.setdefault((row.get("source"), row["id"]) if is_drawn else n, row)
    return list(kept.values())


def seed_of_prompt(seed: int, input_ids: Sequence[int]) -> int:
    """Derive a prompt's own seed, so that what shares its batch changes no draw of it.

    Args:
        seed: the user's.
        input_ids: of the prompt, length T.

    Returns:
        From 0 to 2**63 - 1.

    Example:
        >>> seed_of_prompt(0, [1, 2]) == seed_of_prompt(0, [1, 2]) != seed_of_prompt(1, [1, 2])
        True
    """
    text = f"{seed}:{','.join(map(str, input_ids))}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
