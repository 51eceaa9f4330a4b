"""Find the micro-batch of a run that takes most memory, and what it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from transformers import PreTrainedModel

from biddable.config_training import TrainingConfig
from biddable.data.batching import BatchPlan, Step
from biddable.data.encoded import EncodedRows
from biddable.training.costs import Memory, MicroBatch, States, micro_batches_of
from biddable.training.division import Division
from biddable.training.layout import Layout, planned_steps, recomputed_layers
from biddable.training.micro_batches import shares
from biddable.training.shadow import KeptStates
from biddable.training.sharding import is_asked_for

_STEPS_LOOKED_AT = 2_000
_CANDIDATES = 3  # of each kind, whose activations are counted


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Hold what a peak has beside the formulas.

    Attributes:
        program: bytes of the process that are no part of training.
        factor: what passes take, over the formulas, as measured.
        cache: bytes of the mapped file with the states of frozen layers.
    """

    program: int
    factor: float = 1.0
    cache: int = 0


class Sizing:
    """Size the run of a model on rows.

    Attributes:
        model: with what trains settled on it; nothing of it is run.
        rows: that it trains on.
        settings: how.
        layout: of the rows.
        num_processes: that share the steps; everything is of one of them.
        is_divided: among them.
        states: of the model.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        rows: EncodedRows,
        *,
        settings: TrainingConfig,
        seed: int,
        layout: Layout,
        num_processes: int = 1,
    ) -> None:
        """Take the run; see the attributes.

        Args:
            model: see there; may be without numbers.
            rows: see there.
            settings: see there.
            seed: of the order of rows.
            layout: see there.
            num_processes: see there.
        """
        self.model, self.rows, self.settings, self.layout = model, rows, settings, layout
        self.seed, self.num_processes = seed, num_processes
        self.is_divided = num_processes > 1 and is_asked_for(settings)
        self.states = States.of(model)
        if self.is_divided:
            parts = Division.of(model, in_bytes=True)
            self.states = self.states.divided(parts, num_processes)
        self._like: KeptStates | None = None
        self._counted: dict[tuple[Any, ...], list[list[MicroBatch]]] = {}

    @cached_property
    def kept(self) -> KeptStates:
        """The activations of the model."""
        with recomputed_layers(self.model, self.settings):
            return KeptStates(self.model, self.layout, like=self._like)

    def changed(
        self,
        *,
        model: PreTrainedModel | None = None,
        rows: EncodedRows | None = None,
        **settings: Any,
    ) -> Sizing:
        """Give the same run with one thing changed, be it a setting of its training."""
        made = Sizing(
            model or self.model,
            rows or self.rows,
            settings=self.settings.model_copy(update=settings),
            seed=self.seed,
            layout=Layout.choose(model, self.settings) if model else self.layout,
            num_processes=self.num_processes,
        )
        made._counted = self._counted
        if model is None:
            made._like = self.kept
        return made

    @cached_property
    def steps(self) -> BatchPlan:
        """The plan of the run."""
        return planned_steps(self.rows, settings=self.settings, seed=self.seed, layout=self.layout)

    def micro_batches(self) -> list[list[MicroBatch]]:
        """Count the micro-batches of the first steps, on each process that takes a part in one."""
        settings = self.settings.model_copy(update={"gradient_checkpointing": False})
        key = (self.rows, self.layout, repr(settings))  # of runs that differ elsewhere, too
        if key not in self._counted:
            steps: Sequence[Step] = self.steps[:_STEPS_LOOKED_AT]
            if self.num_processes > 1:
                steps = [part for step in steps for part in self._parts(step)]
            self._counted[key] = micro_batches_of(self.rows, steps, is_tree=self.layout.is_tree)
        return self._counted[key]

    def _parts(self, step: Step) -> list[Step]:
        groups = shares(step.micro_batches, self.rows.lengths, self.num_processes)
        trunk = 0 if self.is_divided else step.trunk  # it is run again in each pass then
        return [replace(step, micro_batches=tuple(own), trunk=trunk) for own in groups if own]

    def peak(
        self, looked_at: Sequence[Sequence[MicroBatch]], surroundings: Surroundings
    ) -> tuple[MicroBatch, Memory]:
        """Find the largest peak.

        Args:
            looked_at: what `micro_batches` gave.
            surroundings: added.

        Returns:
            The micro-batch, and the memory at its peak.
        """
        found = []
        for batch in _candidates(looked_at):
            logits = self.states.logits(batch.num_places)
            kept = self.kept.of(self.rows, batch.numbers, trunk=batch.trunk)
            memory = self.states.peak(
                batch,
                activations=round(surroundings.factor * (kept + logits)) - logits,
                program=surroundings.program,
                cache=surroundings.cache,
            )
            found.append((batch, memory))
        return max(found, key=lambda pair: pair[1].peak)


def _candidates(looked_at: Sequence[Sequence[MicroBatch]]) -> list[MicroBatch]:
    """Choose those that may take most; which it is depends on the model."""
    chosen: dict[tuple[int, ...], MicroBatch] = {}
    for has_gradients in (False, True):
        alike = [b for step in looked_at for b in step if b.has_gradients == has_gradients]
        for key in ("num_tokens", "num_keys", "num_places"):
            ordered = sorted(alike, key=lambda batch: -getattr(batch, key))
            chosen |= {batch.numbers: batch for batch in ordered[:_CANDIDATES]}
    return list(chosen.values())
