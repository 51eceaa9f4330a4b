"""Decide how the rows of a forward pass are laid out: as a tree of their starts, or padded."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from torch import nn
from transformers import PreTrainedModel

from biddable.config_training import TrainingConfig
from biddable.data.batching import MICRO_BATCH_TOKENS, Batch, BatchPlan, collate
from biddable.data.encoded import EncodedRows
from biddable.data.trees import TreeBatch, build_tree
from biddable.errors import ConfigError
from biddable.models.attention import why_no_trees
from biddable.models.freezing import decoder_layers, lowest_trained
from biddable.models.head import Body
from biddable.models.randomness import noisy_embeddings
from biddable.models.recompute import recomputed_activations
from biddable.models.rope import NO_LIMITS, AngleLimits

# A core is busy with a few hundred ids, and what they keep for the gradient stays small; a GPU is
# busy with thousands.
_MAX_TOKENS = {"cpu": 320, "cuda": 16384}


@dataclass(frozen=True, slots=True)
class Layout:
    """Say how rows are laid out; the loss and its gradient do not depend on it.

    Attributes:
        is_tree: each common start of rows is computed once.
        reason: in words, for the user.
        max_tokens: ids of a forward pass, unless the user says how many rows it has.
        limits: at which lengths rows may no longer share a pass.
        note: why the head is run at all places, in words, for the user; empty if it is not.
    """

    is_tree: bool
    reason: str
    max_tokens: int = MICRO_BATCH_TOKENS
    limits: AngleLimits = NO_LIMITS
    note: str = ""

    @classmethod
    def choose(cls, model: nn.Module, settings: TrainingConfig) -> Layout:
        """Take trees where the model allows them and the user does.

        Args:
            model: as it is going to be trained.
            settings: of the run.
        """
        max_tokens, limits = _max_tokens(model), AngleLimits.of(model)
        note = Body(model).why_whole
        if settings.layout == "padded":
            return replace(PADDED, max_tokens=max_tokens, limits=limits, note=note)
        with training_noise(model, settings):
            why = why_no_trees(model)
        if why:
            told = f"rows are padded, not laid out as trees: {why}"
            return cls(False, told, max_tokens, limits, note)
        told = "what rows of a forward pass have in common at their start is run once"
        return cls(True, told, max_tokens, limits, note)

    def batch(
        self, rows: EncodedRows, numbers: Sequence[int], *, trunk: int = 0
    ) -> Batch | TreeBatch:
        """Lay some rows out.

        Args:
            rows: all examples.
            numbers: of those in the batch.
            trunk: first ids that are run in a pass of their own.
        """
        if self.is_tree:
            return build_tree(rows, numbers, trunk=trunk)
        return collate([rows[n] for n in numbers])


def _max_tokens(model: nn.Module) -> int:
    """Say how many ids a pass has: more where lower layers keep nothing for the gradient."""
    device = next(model.parameters()).device.type
    max_tokens = _MAX_TOKENS.get(device, MICRO_BATCH_TOKENS)
    if not isinstance(model, PreTrainedModel):
        return max_tokens
    try:
        num_layers, lowest = len(decoder_layers(model)), lowest_trained(model)
    except ConfigError:  # it keeps them in no list
        return max_tokens
    return max_tokens * num_layers // max(num_layers - lowest, 1)


def training_noise(model: nn.Module, settings: TrainingConfig) -> AbstractContextManager[None]:
    """Add the noise that a run asks for to the model's embeddings, as long as the context lasts."""
    return noisy_embeddings(model, alpha=settings.neftune_alpha)


def recomputes(settings: TrainingConfig) -> bool:
    """Say whether a run computes its layers again for the gradient."""
    return settings.gradient_checkpointing


def recomputed_layers(model: nn.Module, settings: TrainingConfig) -> AbstractContextManager[None]:
    """Let layers be computed again for the gradient if a run asks for it."""
    return recomputed_activations(model, enabled=recomputes(settings))


PADDED = Layout(False, "rows are padded, as asked")


def planned_steps(
    rows: EncodedRows, *, settings: TrainingConfig, seed: int, layout: Layout
) -> BatchPlan:
    """Plan the steps that `train` takes with these arguments."""
    plan = BatchPlan(
        rows,
        batch_size=settings.batch_size,
        micro_batch_size=settings.micro_batch_size,
        epochs=settings.epochs,
        seed=seed,
        is_tree=layout.is_tree,
        max_tokens=layout.max_tokens,
        kinds=layout.limits.kinds(rows.lengths.tolist()),
    )
    return plan.keeping_together() if settings.keep_together else plan


def held_out_step(model: nn.Module, rows: EncodedRows, *, layout: Layout) -> BatchPlan:
    """Plan the one "step" over all rows that measures their loss: its passes are as in a step."""
    kinds = AngleLimits.of(model).kinds(rows.lengths.tolist())
    return BatchPlan(rows, batch_size=len(rows), is_tree=layout.is_tree, kinds=kinds)
