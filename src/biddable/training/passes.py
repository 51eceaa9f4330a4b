"""Run the passes of a run's steps: from where layers begin to train, compiled where that pays."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor, nn

from biddable.config_training import TrainingConfig
from biddable.data.batching import Batch, Step
from biddable.data.encoded import EncodedRows
from biddable.data.trees import TreeBatch, build_tree
from biddable.models.compiling import CompiledLayers
from biddable.models.loss import Trunk, accumulate_gradient
from biddable.training.activations import Activations, cache_limit_gb, open_activations
from biddable.training.layout import Layout
from biddable.training.precision import MIXED, is_mixed
from biddable.training.run_state import cuda_devices, random_state, set_random_state


class Passes:
    """What a run's forward and backward passes go through."""

    def __init__(
        self, model: nn.Module, rows: EncodedRows, *, settings: TrainingConfig, layout: Layout
    ) -> None:
        """Run nothing yet.

        Args:
            model: as it is going to be trained.
            rows: all that is trained on.
            settings: of the run.
            layout: of the rows.
        """
        self._model, self._rows, self._layout, self._settings = model, rows, layout, settings
        self._compiled = CompiledLayers(model, is_asked_for=settings.compile)
        self._activations: Activations | None = None

    def prepare(self, first: Step, *, num_epochs: int, is_divided: bool) -> list[tuple[str, str]]:
        """Keep what frozen layers give, and compile the others, where either pays.

        Args:
            first: of all steps, in a run that is resumed as well, for what the compiler makes may
                depend on the first sizes that it sees.
            num_epochs: of the run.
            is_divided: the model is, among processes: neither is done then.

        Returns:
            What there is to tell: kinds of event, and texts.
        """
        told = [("note", MIXED)] if is_mixed(self._model, self._settings) else []
        if apart := self._layout.limits.told(self._rows.lengths.tolist()):
            told.append(("note", apart))
        if is_divided:
            return told
        self._activations, kept = open_activations(
            self._model,
            self._rows,
            num_epochs=num_epochs,
            limit_gb=cache_limit_gb(self._settings),
        )
        told += [("activations", kept)] if kept else []
        if why := self._try_compiled(first):
            told.append(("note", f"the layers are not compiled: {why}"))
        return told

    def accumulate(
        self, numbers: Sequence[int], *, num_loss_tokens: int, length: int, trunk: Trunk | None
    ) -> Tensor:
        """Add the gradient of a micro-batch, and give its share of the step's loss.

        Args:
            numbers: of its rows.
            num_loss_tokens: of the whole step.
            length: of the start that all rows of the step have in common, run by itself; or 0.
            trunk: that start.
        """
        batch = self._layout.batch(self._rows, numbers, trunk=length)
        # what a trunk is seen through would be compiled for each layer alone
        compiled = nullcontext() if trunk is not None else self._compiled.applied()
        with compiled, self.from_the_cut(batch, numbers):
            return accumulate_gradient(
                self._model, batch, num_loss_tokens=num_loss_tokens, trunk=trunk
            )

    def run_trunk(self, numbers: Sequence[int], *, num_loss_tokens: int, length: int) -> Trunk:
        """Run the start that some rows have in common.

        Args:
            numbers: of the rows.
            num_loss_tokens: of the whole step.
            length: of the start.
        """
        tree = build_tree(self._rows, numbers, trunk=length, only_trunk=True)
        with self.from_the_cut(tree, numbers):
            return Trunk(self._model, tree, num_loss_tokens=num_loss_tokens)

    def from_the_cut(
        self, batch: Batch | TreeBatch, numbers: Sequence[int]
    ) -> AbstractContextManager[None]:
        """Let the model start where layers begin to train, if what those below give is kept."""
        if self._activations is None:
            return nullcontext()
        return self._activations.applied(batch, numbers)

    def _try_compiled(self, step: Step) -> str:
        """Take a pass of a step, which leaves nothing behind, so that the layers are compiled."""
        if not self._compiled.is_on:
            return ""
        numbers = step.micro_batches[0]
        before = random_state(cuda_devices(self._model))
        try:
            return self._compiled.try_out(
                lambda: self.accumulate(numbers, num_loss_tokens=1, length=0, trunk=None)
            )
        finally:
            set_random_state(before)
            self._model.zero_grad(set_to_none=True)
