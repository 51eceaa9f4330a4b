"""Say what would lower the memory of a run on this machine, and by how much by the formulas."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch

from biddable.data.encoded import EncodedRows
from biddable.errors import ConfigError
from biddable.models.freezing import decoder_layers, freeze_layers, lowest_trained
from biddable.models.lora import apply_lora, lora_layers
from biddable.training.changes import Change, Changed, Search, Suggestion
from biddable.training.costs import Memory, MicroBatch
from biddable.training.shadow import sharing_numbers
from biddable.training.sharding import is_divisible
from biddable.training.sizing import Sizing, Surroundings

_Shortest = Callable[[EncodedRows, float], tuple[int, EncodedRows]]
_Peak = Callable[[Sizing], tuple[MicroBatch, Memory]]

_LORA_RANK = 8
_SHARES_FROZEN = (0.5, 0.75, 0.9)  # of layers, the lower ones
_SHARES_KEPT = (0.99, 0.95, 0.9, 0.75)  # of rows, when the longest are dropped


def suggest(sizing: Sizing, surroundings: Surroundings, *, limit: int) -> list[Suggestion]:
    """Look for changes that make a run fit.

    Args:
        sizing: of the run as it is.
        surroundings: of its peak.
        limit: bytes that there are.

    Returns:
        As `Search.suggestions` gives them.
    """

    @cache
    def peak(run: Sizing) -> tuple[MicroBatch, Memory]:
        return run.peak(run.micro_batches(), surroundings)

    shortest = cache(_shortest)  # the same rows each time, so that they are planned once
    changes = [
        Change(cache(_adapted)),  # always of the run as it is
        Change(lambda run: _frozen(run, peak, limit=limit)),
        Change(_recomputed),
        Change(_divided),
        Change(lambda run: _smaller(run, peak, limit=limit)),
        Change(lambda run: _shorter(run, peak, shortest, limit=limit), cost=1),  # rows are lost
    ]
    return Search(sizing, changes, lambda run: peak(run)[1].needed, limit).suggestions()


def _adapted(run: Sizing) -> Changed[Sizing] | None:
    if lora_layers(run.model):
        return None
    copy = sharing_numbers(run.model)
    try:
        with torch.random.fork_rng(devices=[]):
            apply_lora(copy, rank=_LORA_RANK)
    except ConfigError:  # no linear layers
        return None
    return Changed(
        run.changed(model=copy),
        f"method: {{name: lora, rank: {_LORA_RANK}}}",
        "gradients and optimizer states of the adapter alone",
    )


def _frozen(run: Sizing, peak: _Peak, *, limit: int) -> Changed[Sizing] | None:
    """Freeze lower layers until it fits, half of them at first."""
    if lora_layers(run.model) or lowest_trained(run.model):
        return None
    num_layers, found = len(decoder_layers(run.model)), None
    for share in _SHARES_FROZEN:
        num_frozen, copy = int(share * num_layers), sharing_numbers(run.model)
        freeze_layers(copy, num_frozen)
        found = Changed(
            run.changed(model=copy),
            f"method: {{name: freeze, num_frozen_layers: {num_frozen}}}",
            f"{num_layers - num_frozen} of {num_layers} layers train",
        )
        if peak(found.run)[1].needed <= limit:
            break
    return found


def _recomputed(run: Sizing) -> Changed[Sizing] | None:
    if not getattr(run.model, "supports_gradient_checkpointing", False):
        return None
    return Changed(
        run.changed(gradient_checkpointing=True),
        "training.gradient_checkpointing: true",
        "layers are computed again for the gradient, about a third more time",
    )


def _divided(run: Sizing) -> Changed[Sizing] | None:
    if run.num_processes == 1 or run.is_divided or not is_divisible(run.model):
        return None
    return Changed(
        run.changed(sharding="full"),
        "training.sharding: full",
        "weights, gradients and moments divided among the processes",
    )


def _smaller(run: Sizing, peak: _Peak, *, limit: int) -> Changed[Sizing] | None:
    """Halve the rows of a forward pass until it fits."""
    num_rows, found = len(peak(run)[0].numbers), None
    while num_rows > 1:
        num_rows //= 2
        found = Changed(
            run.changed(micro_batch_size=num_rows),
            f"training.micro_batch_size: {num_rows}",
            "the same steps in more forward passes",
        )
        if peak(found.run)[1].needed <= limit:
            break
    return found


def _shorter(
    run: Sizing, peak: _Peak, shortest: _Shortest, *, limit: int
) -> Changed[Sizing] | None:
    """Drop the longest rows until it fits."""
    num_rows, found = len(run.rows), None
    for share in _SHARES_KEPT:
        cut, rows = shortest(run.rows, share)
        if len(rows) == num_rows:
            continue
        found = Changed(
            run.changed(rows=rows),
            f"data.max_seq_len: {cut}",
            f"drops {num_rows - len(rows):,} of {num_rows:,} rows",
        )
        if peak(found.run)[1].needed <= limit:
            break
    return found


def _shortest(rows: EncodedRows, share: float) -> tuple[int, EncodedRows]:
    """Give the longest length, in tokens, of the rows that are kept, and those."""
    cut = int(np.sort(rows.lengths)[max(round(share * len(rows)) - 1, 0)])
    return cut, rows.take(np.flatnonzero(rows.lengths <= cut))
