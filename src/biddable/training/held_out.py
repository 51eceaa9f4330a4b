"""Measure the loss of rows that are not trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from biddable.data.encoded import EncodedRows
from biddable.data.encoding import Example
from biddable.errors import RunStopped
from biddable.models.loss import batch_loss
from biddable.training.checkpoints import Event
from biddable.training.distributed import ALONE, World
from biddable.training.layout import PADDED, Layout, held_out_step
from biddable.training.micro_batches import FittingCuts, Group
from biddable.training.sharding import running
from biddable.training.shards import is_in_parts

_Sums = tuple[float, int]  # of the loss, and of the learned tokens


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
    (step,) = held_out_step(model, rows, layout=layout)
    own = world.share(step.micro_batches, rows.lengths)

    def measure(numbers: Group) -> _Sums:
        loss_sum, num_loss_tokens = batch_loss(model, layout.batch(rows, numbers))
        return float(loss_sum), int(num_loss_tokens)

    was_training = model.training
    model.train(False)
    try:
        with torch.no_grad():
            if is_in_parts(model):
                passes = _Lockstep(world, measure, before_batch)
                with running(model, world):
                    sums = passes.over(own, filler=(step.rows[0],))
                passes.stop_if_asked()
            else:
                cuts = FittingCuts(rows, is_tree=layout.is_tree, tell=tell)
                with world.agreed():
                    sums = cuts.fit(own, lambda groups: _over(groups, measure, before_batch))
    finally:
        model.train(was_training)
    loss_sum, count = world.sum(*sums)
    return loss_sum / max(count, 1), int(count)


def _over(
    groups: Sequence[Group], measure: Callable[[Group], _Sums], before_batch: Callable[[], None]
) -> _Sums:
    loss_sum, num_loss_tokens = 0.0, 0
    for numbers in groups:
        before_batch()
        batch_sum, learned = measure(numbers)
        loss_sum += batch_sum
        num_loss_tokens += learned
    return loss_sum, num_loss_tokens


class _Lockstep:
    """The passes of one process of several that divide a model: as many as the others make."""

    def __init__(
        self, world: World, measure: Callable[[Group], _Sums], before_batch: Callable[[], None]
    ) -> None:
        self._world, self._measure, self._before_batch = world, measure, before_batch
        self._asked: RunStopped | None = None

    def over(self, groups: Sequence[Group], *, filler: Group) -> _Sums:
        """Add up the passes; where others have more, run rows that do not count."""
        loss_sum, num_loss_tokens = 0.0, 0
        for number in range(self._world.most(len(groups))):
            if self._world.most(self._is_asked_to_stop()):
                break
            has_rows = number < len(groups)
            batch_sum, learned = self._measure(groups[number] if has_rows else filler)
            loss_sum += batch_sum if has_rows else 0.0
            num_loss_tokens += learned if has_rows else 0
        return loss_sum, num_loss_tokens

    def stop_if_asked(self) -> None:
        """End it on all processes, if one was asked to stop; not before a pass is whole."""
        with self._world.agreed():
            if self._asked is not None:
                raise self._asked

    def _is_asked_to_stop(self) -> bool:
        try:
            self._before_batch()
        except RunStopped as asked:
            self._asked = asked
        return self._asked is not None
