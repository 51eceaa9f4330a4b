"""Measure the loss of rows that are not trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from biddable.data.batching import BatchPlan
from biddable.data.encoded import EncodedRows
from biddable.data.encoding import Example
from biddable.errors import RunStopped
from biddable.models.loss import batch_loss
from biddable.training.checkpoints import Event
from biddable.training.distributed import ALONE, World
from biddable.training.layout import PADDED, Layout
from biddable.training.micro_batches import FittingCuts, Group
from biddable.training.sharding import running
from biddable.training.shards import is_in_parts


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
        model: a transformers causal LM, in either mode; it is left in it. Of one that is divided
            among the processes, each makes as many passes as the one with most.
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
    own = world.share(step.micro_batches, rows.lengths)

    def measure(numbers: Group) -> tuple[float, int]:
        batch_sum, learned = batch_loss(model, layout.batch(rows, numbers))
        return float(batch_sum), int(learned)

    def add_up(micro_batches: Sequence[Group]) -> tuple[float, float]:
        loss_sum, num_loss_tokens = 0.0, 0
        for numbers in micro_batches:
            before_batch()
            batch_sum, learned = measure(numbers)
            loss_sum += batch_sum
            num_loss_tokens += learned
        return loss_sum, num_loss_tokens

    def add_up_together() -> tuple[float, float]:
        loss_sum, num_loss_tokens, stop = 0.0, 0, None
        with running(model, world):
            for number in range(world.most(len(own))):
                stop = stop or _asked_to_stop(before_batch)
                if world.most(stop is not None):
                    break
                has_rows = number < len(own)
                batch_sum, learned = measure(own[number] if has_rows else (step.rows[0],))
                loss_sum += batch_sum if has_rows else 0.0  # others wait for this pass's layers
                num_loss_tokens += learned if has_rows else 0
        with world.agreed():
            if stop is not None:
                raise stop
        return loss_sum, num_loss_tokens

    was_training = model.training
    model.train(False)
    try:
        with torch.no_grad():
            if is_in_parts(model):
                sums = add_up_together()
            else:
                with world.agreed():
                    sums = cuts.fit(own, add_up)
    finally:
        model.train(was_training)
    loss_sum, count = world.sum(*sums)
    return loss_sum / max(count, 1), int(count)


def _asked_to_stop(before_batch: Callable[[], None]) -> RunStopped | None:
    try:
        before_batch()
    except RunStopped as asked:
        return asked  # raised after the last pass, for the others are waiting in it
    return None
