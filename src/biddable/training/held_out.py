"""Measure the loss of rows that are not trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from biddable.data.batching import BatchPlan
from biddable.data.encoded import EncodedRows
from biddable.data.encoding import Example
from biddable.models.loss import batch_loss
from biddable.training.checkpoints import Event
from biddable.training.distributed import ALONE, World
from biddable.training.layout import PADDED, Layout
from biddable.training.micro_batches import FittingCuts, Group


def held_out_loss(
    model: nn.Module,
    examples: Sequence[Example],
    *,
    layout: Layout = PADDED,
    tell: Callable[[Event], None] = lambda event: None,
    before_batch: Callable[[], None] = lambda: None,
    world: World = ALONE,
) -> tuple[float, int]:
    """Measure the mean loss of the learned tokens of some rows, without training on them.

    Args:
        model: a transformers causal LM, in either mode; it is left in it.
        examples: the rows.
        layout: how they are laid out; the loss does not depend on it.
        tell: is given a note if memory ran out and rows are measured in smaller groups.
        before_batch: called before each; what it raises ends the measurement.
        world: the processes that measure together, each a part.

    Returns:
        loss: nats per learned token.
        num_loss_tokens: how many there were.
    """
    rows = EncodedRows.of(examples)
    # one "step" over all rows: its micro-batches are sorted and limited in size
    (step,) = BatchPlan(rows, batch_size=len(rows), is_tree=layout.is_tree)
    cuts = FittingCuts(rows, is_tree=layout.is_tree, tell=tell)

    def add_up(micro_batches: Sequence[Group]) -> tuple[float, float]:
        loss_sum, num_loss_tokens = 0.0, 0
        for numbers in micro_batches:
            before_batch()
            batch_sum, learned = batch_loss(model, layout.batch(rows, numbers))
            loss_sum += float(batch_sum)
            num_loss_tokens += int(learned)
        return loss_sum, num_loss_tokens

    was_training = model.training
    model.train(False)
    try:
        with torch.no_grad(), world.agreed():
            sums = cuts.fit(world.share(step.micro_batches, rows.lengths), add_up)
    finally:
        model.train(was_training)
    loss_sum, count = world.sum(*sums)
    return loss_sum / max(count, 1), int(count)
