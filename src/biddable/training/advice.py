"""Say what would lower the memory of a run, and by how much by the formulas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from biddable.data.encoded import EncodedRows
from biddable.errors import ConfigError
from biddable.models.lora import apply_lora, lora_layers
from biddable.training.costs import Memory
from biddable.training.shadow import without_numbers
from biddable.training.sizing import Sizing, Surroundings

_LORA_RANK = 8
_WORTH = 0.01  # of the peak; what saves less is not told
_SHARES_KEPT = (0.99, 0.95, 0.9, 0.75)  # of rows, when the longest are dropped


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Hold one change.

    Attributes:
        change: what to write into the config, and what comes with it.
        saves: bytes at the peak, by the formulas.
        needed: bytes that are needed then.
        fits: that is enough by itself.
    """

    change: str
    saves: int
    needed: int
    fits: bool


def suggest(
    sizing: Sizing, surroundings: Surroundings, *, needed: int, limit: int
) -> list[Suggestion]:
    """Look for changes that make a run fit.

    Args:
        sizing: of the run as it is.
        surroundings: of its peak.
        needed: bytes at its peak.
        limit: bytes that there are.

    Returns:
        Those that save something, the ones that suffice first, then by what they save.
    """
    found = []
    for change, memory in _changes(sizing, surroundings, limit):
        saves = needed - memory.needed
        if saves > _WORTH * needed:
            found.append(Suggestion(change, saves, memory.needed, memory.needed <= limit))
    return sorted(found, key=lambda suggestion: (not suggestion.fits, -suggestion.saves))


def _changes(
    sizing: Sizing, surroundings: Surroundings, limit: int
) -> Iterator[tuple[str, Memory]]:
    looked_at = sizing.micro_batches()
    largest, _ = sizing.peak(looked_at, surroundings)
    if not lora_layers(sizing.model):
        copy = without_numbers(sizing.model)
        try:
            apply_lora(copy, rank=_LORA_RANK)
        except ConfigError:  # no linear layers
            pass
        else:
            adapted = sizing.changed(model=copy)
            yield (
                f"method: lora (rank {_LORA_RANK}): gradients and optimizer states of the adapter"
                " alone",
                adapted.peak(looked_at, surroundings)[1],
            )
    if getattr(sizing.model, "supports_gradient_checkpointing", False):
        yield (
            "training.gradient_checkpointing: true: layers are computed again for the gradient;"
            " about a third more time",
            sizing.peak(looked_at, surroundings, recompute=True)[1],
        )
    if sizing.num_processes > 1 and not sizing.is_divided:
        divided = sizing.changed(sharding="full")
        yield (
            "training.sharding: full: weights, gradients and moments divided among the processes",
            divided.peak(divided.micro_batches(), surroundings)[1],
        )
    yield from _smaller(sizing, surroundings, len(largest.numbers), limit)
    yield from _shorter(sizing, surroundings, limit)


def _smaller(
    sizing: Sizing, surroundings: Surroundings, num_rows: int, limit: int
) -> Iterator[tuple[str, Memory]]:
    """Halve the rows of a forward pass until it fits."""
    while num_rows > 1:
        num_rows //= 2
        changed = sizing.changed(micro_batch_size=num_rows)
        memory = changed.peak(changed.micro_batches(), surroundings)[1]
        if memory.needed <= limit or num_rows == 1:
            yield (
                f"training.micro_batch_size: {num_rows}: the same steps in more forward passes",
                memory,
            )
            return


def _shorter(
    sizing: Sizing, surroundings: Surroundings, limit: int
) -> Iterator[tuple[str, Memory]]:
    """Drop the longest rows until it fits."""
    lengths = sorted(sizing.rows.lengths.tolist())
    for share in _SHARES_KEPT:
        cut = lengths[max(round(share * len(lengths)) - 1, 0)]
        kept = [n for n, length in enumerate(sizing.rows.lengths.tolist()) if length <= cut]
        if len(kept) == len(lengths):
            continue
        changed = sizing.changed(rows=EncodedRows.of([sizing.rows[n] for n in kept]))
        memory = changed.peak(changed.micro_batches(), surroundings)[1]
        if memory.needed <= limit or share == _SHARES_KEPT[-1]:
            dropped = len(lengths) - len(kept)
            yield f"data.max_seq_len: {cut}: drops {dropped:,} of {len(lengths):,} rows", memory
            return
