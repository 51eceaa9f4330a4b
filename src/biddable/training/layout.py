"""Decide how the rows of a forward pass are laid out: as a tree of their starts, or padded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from biddable.config_training import TrainingConfig
from biddable.data.batching import Batch, collate
from biddable.data.encoded import EncodedRows
from biddable.data.trees import TreeBatch, build_tree
from biddable.models.attention import why_no_trees


@dataclass(frozen=True, slots=True)
class Layout:
    """Say how rows are laid out; the loss and its gradient do not depend on it.

    Attributes:
        is_tree: each common start of rows is computed once.
        reason: in words, for the user.
    """

    is_tree: bool
    reason: str

    @classmethod
    def choose(cls, model: nn.Module, settings: TrainingConfig) -> Layout:
        """Take trees where the model allows them and the user does.

        Args:
            model: as it is going to be trained.
            settings: of the run.
        """
        if settings.layout == "padded":
            return PADDED
        if why := why_no_trees(model):
            return cls(False, f"rows are padded, not laid out as trees: {why}")
        return cls(True, "what rows of a forward pass have in common at their start is run once")

    def batch(
        self, rows: EncodedRows, numbers: Sequence[int], *, pad_id: int = 0, trunk: int = 0
    ) -> Batch | TreeBatch:
        """Lay some rows out.

        Args:
            rows: all examples.
            numbers: of those in the batch.
            pad_id: fills shorter rows of a padded batch.
            trunk: first ids that are run in a pass of their own.
        """
        if self.is_tree:
            return build_tree(rows, numbers, trunk=trunk)
        return collate([rows[n] for n in numbers], pad_id)


PADDED = Layout(False, "rows are padded, as asked")
