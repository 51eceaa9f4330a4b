"""Say before the first step what a run takes: memory at its peak, and time.

Memory is what autograd would keep for the largest micro-batch of the plan, counted, and corrected
by what a few measured passes took; time is a constant and a rate fitted to the same passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from biddable.data.batching import BatchPlan
from biddable.data.encoded import EncodedRows
from biddable.models.lean_layers import fast_layers
from biddable.training.activations import Activations, planned_activations
from biddable.training.advice import suggest
from biddable.training.changes import Suggestion
from biddable.training.costs import Memory, MicroBatch, States, Work, micro_batches_of
from biddable.training.layout import held_out_step, recomputed_layers, training_noise
from biddable.training.measuring import Bench, Measured, memory_in_use
from biddable.training.memory import free_memory
from biddable.training.precision import passes_in_precision
from biddable.training.sizing import Sizing, Surroundings

_CLOSE = 0.95  # a peak above this share of what there is does not fit surely


@dataclass(frozen=True, slots=True)
class Pace:
    """Hold the time of a run, in seconds.

    Attributes:
        per_step: the mean.
        per_epoch: its steps.
        held_out: all measurements of the held-out loss.
        kept_states: running frozen layers once, where their states are kept.
        total: all of it.
    """

    per_step: float
    per_epoch: float
    held_out: float
    kept_states: float
    total: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """Hold what a run takes.

    Attributes:
        memory: at its peak.
        available: bytes that this process may have, on the device that trains.
        fits: the peak leaves some room.
        device: that trains.
        num_tokens: in the largest micro-batch.
        num_rows: in it.
        num_processes: that share the steps; memory is of each.
        is_divided: among them are weights, gradients and moments.
        host: bytes of the whole base, which rank 0 of processes that divide it has in the CPU's
            memory before they do; 0 where it is not divided.
        is_counted: activations are counted; else they are by a formula for Llama-type models.
        pace: None where nothing was measured, or where several processes share the steps.
        measured: the passes behind it.
        suggestions: what would lower the peak; looked for only if it does not fit.
    """

    memory: Memory
    available: int
    fits: bool
    device: str
    num_tokens: int
    num_rows: int
    num_processes: int
    is_divided: bool
    host: int
    is_counted: bool
    pace: Pace | None
    measured: Measured | None
    suggestions: list[Suggestion]

    def as_json(self) -> dict[str, Any]:
        """Give it for a program to read; sizes in bytes, times in seconds."""
        described = asdict(self)
        described["memory"] |= {"peak": self.memory.peak, "needed": self.memory.needed}
        return described


def estimate(
    sizing: Sizing, held_out: EncodedRows, *, measure: bool, available: int | None = None
) -> Estimate:
    """Estimate a run on the model that it would train.

    Args:
        sizing: of the run; some passes of its model are run, its weights stay.
        held_out: rows whose loss is measured before training and after each epoch.
        measure: run some passes; else there is no time, and memory is by the formulas alone.
        available: bytes that this process may have; None: asked of the machine.
    """
    model, steps, looked_at = sizing.model, sizing.steps, sizing.micro_batches()
    in_use = memory_in_use(model.device)
    if available is None:
        available = free_memory(model.device) + in_use
    activations = None
    if not sizing.is_divided:
        activations, _ = planned_activations(
            model, sizing.rows, settings=sizing.settings, num_epochs=_num_epochs(steps)
        )
    cache = activations.num_bytes if activations else 0
    around = Surroundings(program=max(in_use - States.of(model).weights, 0), cache=cache)
    largest, _ = sizing.peak(looked_at, around)
    pace = measured = None
    if measure:
        num_skipped = activations.num_layers if activations else 0
        bench = Bench(model, layout=sizing.layout, kept=sizing.kept, num_skipped=num_skipped)
        with (
            fast_layers(model),
            passes_in_precision(model, sizing.settings),
            recomputed_layers(model, sizing.settings),
            training_noise(model, sizing.settings),
        ):
            measured = bench.measure(sizing.rows, largest.numbers)
        around = Surroundings(measured.program, measured.memory_factor, cache)
        if sizing.num_processes == 1:  # how fast they talk to each other is not known here
            pace = _pace(
                sizing, looked_at, held_out=held_out, measured=measured, states=activations
            )
    largest, memory = sizing.peak(looked_at, around)
    limit = round(_CLOSE * available)
    fits = memory.needed <= limit
    return Estimate(
        memory=memory,
        available=available,
        fits=fits,
        device=str(model.device),
        num_tokens=largest.num_tokens,
        num_rows=len(largest.numbers),
        num_processes=sizing.num_processes,
        is_divided=sizing.is_divided,
        host=States.of(model).weights if sizing.is_divided else 0,
        is_counted=sizing.kept.is_counted,
        pace=pace,
        measured=measured,
        suggestions=[] if fits else suggest(sizing, around, limit=limit),
    )


def _pace(
    sizing: Sizing,
    looked_at: Sequence[Sequence[MicroBatch]],
    *,
    held_out: EncodedRows,
    measured: Measured,
    states: Activations | None,
) -> Pace:
    """Add up the time of all parts of a run from what was measured."""
    steps = sizing.steps
    work = Work.of(sizing.model, num_skipped=states.num_layers if states else 0)
    batches = [batch for step in looked_at for batch in step]
    needed = sum(map(work.to_train, batches))
    seconds = measured.seconds_of(needed, num_batches=len(batches))
    per_step = seconds / len(looked_at) + measured.seconds_step
    num_epochs = _num_epochs(steps)
    once = 0.0
    if states is not None:
        below = Work.of(sizing.model).forward_token - work.forward_token
        once = measured.seconds_of(below * states.num_nodes)
    apart = _held_out_seconds(sizing, held_out, measured) * (num_epochs + 1)
    in_steps = per_step * len(steps)
    return Pace(
        per_step=per_step,
        per_epoch=in_steps / num_epochs if num_epochs > 1 else in_steps,
        held_out=apart,
        kept_states=once,
        total=in_steps + apart + once,
    )


def _held_out_seconds(sizing: Sizing, held_out: EncodedRows, measured: Measured) -> float:
    if not held_out:
        return 0.0
    steps = held_out_step(sizing.model, held_out, layout=sizing.layout)
    (batches,) = micro_batches_of(held_out, steps, is_tree=sizing.layout.is_tree)
    work = Work.of(sizing.model)
    needed = sum(map(work.to_run, batches))
    return measured.seconds_of(needed, num_batches=len(batches))


def _num_epochs(steps: BatchPlan) -> int:
    return steps[len(steps) - 1].epoch + 1
