"""The one training loop: examples in, a trained model and its log out.

It knows ids and masks, not text; which parameters train was settled on the model before. The loss
of a step is a sum divided once, by the learned tokens of all of its micro-batches, so that how a
step is cut into micro-batches changes nothing.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from biddable.config_training import TrainingConfig
from biddable.data.batching import Step
from biddable.data.encoded import EncodedRows
from biddable.data.encoding import Example
from biddable.models.adapter import num_base_parameters
from biddable.models.lean_layers import fast_layers
from biddable.training.checkpoints import Event
from biddable.training.held_out import held_out_loss
from biddable.training.layout import Layout, planned_steps, recomputed_layers, training_noise
from biddable.training.memory import peak_memory
from biddable.training.micro_batches import FittingCuts, Group
from biddable.training.nonfinite import (
    NotFiniteError,
    held_out_not_finite,
    leave_out,
    require_finite,
)
from biddable.training.optimizer import (
    build_optimizer,
    peak_learning_rate,
    schedule_factor,
    set_learning_rate,
)
from biddable.training.passes import Passes
from biddable.training.precision import passes_in_precision
from biddable.training.requirements import require_held_out, require_learnable, require_room
from biddable.training.run_state import (
    RunState,
    TrainingLog,
    cuda_devices,
    load_trained,
    trained_parameters,
)
from biddable.training.safekeeping import Safekeeping
from biddable.training.sharding import Sharding, running
from biddable.training.venue import NOWHERE, Venue

OnEvent = Callable[[Event], None]


def train(
    model: nn.Module,
    examples: Sequence[Example],
    *,
    settings: TrainingConfig,
    held_out: Sequence[Example] = (),
    seed: int = 0,
    on_event: OnEvent | None = None,
    venue: Venue = NOWHERE,
) -> TrainingLog:
    """Train a model in place.

    Args:
        model: a transformers causal LM; its parameters with ``requires_grad`` are trained.
        examples: the rows; each has at least one learned token.
        settings: epochs, batch size, learning rate and the like.
        held_out: rows whose loss is measured before training and after each epoch, or as often as
            the settings say.
        seed: order of rows, and dropout; the global random state is left as it was.
        on_event: called with every record as it is made, and once at the start and the end.
        venue: where the run saves itself, what it is asked on the way, and which processes take
            its steps together; by default none of that.

    Returns:
        The log. The model is left in evaluation mode; one that is divided among processes stays
        so, for none of them need be able to hold it whole (`biddable.training.gathering`).

    Raises:
        ConfigError: a setting needs held-out rows, or a GPU, and there are none.
        DataError: there are no examples, one has nothing to learn, or one, or a held-out row, is
            longer than what the model can read.
        TrainingError: a loss or gradient is not finite; no weight was touched by it.
        RunStopped: a signal asked for it, and the run is saved.
    """
    rows, held_out = EncodedRows.of(examples), EncodedRows.of(held_out)
    require_learnable(model, rows)
    require_room(model, examples=rows, held_out=held_out)
    require_held_out(settings, held_out)
    run = _Run(
        model,
        rows,
        settings=settings,
        held_out=held_out,
        seed=seed,
        on_event=on_event,
        venue=venue,
    )
    with (
        torch.random.fork_rng(devices=cuda_devices(model)),
        fast_layers(model),
        passes_in_precision(model, settings),
        recomputed_layers(model, settings),
        training_noise(model, settings),
    ):
        torch.manual_seed(seed)
        try:
            return run.go()
        finally:
            model.train(False)


class _Run:
    """One call of `train`: what stays the same over its steps, and the state that does not."""

    def __init__(
        self,
        model: nn.Module,
        examples: EncodedRows,
        *,
        settings: TrainingConfig,
        held_out: Sequence[Example],
        seed: int,
        on_event: OnEvent | None,
        venue: Venue,
    ) -> None:
        self.model, self.examples, self.held_out = model, examples, held_out
        self.on_event, self.samples = on_event, venue.samples
        self.world, self.seed = venue.world, seed
        self.sharding = Sharding.choose(model, settings, venue.world)
        with running(model, venue.world):
            # one for all: it settles the steps
            self.layout = venue.world.from_main(Layout.choose(model, settings))
        self.passes = Passes(model, examples, settings=settings, layout=self.layout)
        self.steps = planned_steps(examples, settings=settings, seed=seed, layout=self.layout)
        rate, reason = peak_learning_rate(model, settings)
        self.state = RunState(TrainingLog(learning_rate=rate, learning_rate_reason=reason))
        self.learning_rates = [
            rate * schedule_factor(number, len(self.steps), settings=settings)
            for number in range(len(self.steps))
        ]
        self.notes: list[Event] = []  # of what is under way, told when it is done
        is_tree = self.layout.is_tree
        self.cuts = FittingCuts(examples, is_tree=is_tree, tell=self.notes.append)
        self.max_grad_norm = settings.max_grad_norm
        self.may_skip = settings.on_nonfinite == "skip"
        self.held_out_every, self.patience = settings.held_out_every, settings.patience
        self.keeps_best = settings.keep == "best"
        self.trained = list(trained_parameters(model).values())
        self.optimizer = build_optimizer(
            model, learning_rate=rate, weight_decay=settings.weight_decay
        )
        self.safe = Safekeeping(
            model,
            self.optimizer,
            checkpoints=venue.checkpoints,
            num_steps=len(self.steps),
            tell=self._tell,
            world=venue.world,
        )

    def go(self) -> TrainingLog:
        """Run all steps that are left."""
        laid_out = {"layout": self.layout.reason, "is_tree": self.layout.is_tree}
        self._tell({"event": "plan", **self.steps.describe(), **laid_out})
        state = self.state = self.safe.resume() or self.state
        self._tell(
            {
                "event": "start",
                "step": state.step,
                "seconds": self.safe.seconds(),
                "num_tokens": state.log.num_tokens,
                "num_steps": len(self.steps),
                "num_epochs": self.steps[-1].epoch + 1,
                "num_examples": len(self.examples),
                "num_parameters": num_base_parameters(self.model),
                "num_trained_parameters": sum(p.numel() for p in self.trained),
                "learning_rate": state.log.learning_rate,
                "learning_rate_reason": state.log.learning_rate_reason,
            }
        )
        for note in filter(None, (self.sharding.note, self.layout.note)):
            self._tell({"event": "note", "text": note})
        self.model.train(True)
        told = self.passes.prepare(
            self.steps[0],
            num_epochs=self.steps[-1].epoch + 1,
            is_divided=self.sharding.is_on,
        )
        for kind, text in told:
            self._tell({"event": kind, "text": text})
        self._settle_first_size()
        while True:
            if self._is_to_measure():
                self._measure()
            self._sample()
            if state.step == len(self.steps) or self._is_out_of_patience():
                break
            self._advance()
            self.safe.save_if_due(state)
        self.safe.save_if_due(state, is_last=True)
        self._settle()
        state.log.seconds = self.safe.seconds()
        self._tell({"event": "end", "seconds": state.log.seconds})
        return state.log

    def _advance(self) -> None:
        """Take the next step, or leave it out if it comes to no number and may be."""
        number, step = self.state.step, self.steps[self.state.step]
        rows = step.rows
        with self.safe.saved_as_before(self.state):
            record: Event = {}
            self.world.seed_step(self.seed, number)
            try:
                loss, norm = self._add_gradients(step, rows)
            except NotFiniteError as found:
                self.optimizer.zero_grad(set_to_none=True)
                record = leave_out(found, self.state, self.examples, may_skip=self.may_skip)
        record = record or self._apply_gradients(number, rows, loss=loss, norm=norm)
        self.state.step, self.state.epoch = number + 1, step.epoch + 1
        self.state.micro_batch_limit = self.cuts.limit
        seen = zlib.crc32(np.array(rows, "<i8").tobytes())
        place = {"event": record.pop("event"), "step": number + 1, "epoch": step.epoch + 1}
        # logs that agree in "rows" are of runs that saw the same rows in the same order
        self._record({**place, **record, "rows": f"{seen:08x}"})
        self._record_notes()

    def _add_gradients(self, step: Step, rows: Sequence[int]) -> tuple[float, float]:
        """Run forward and backward over the micro-batches of a step: its loss and gradient norm."""
        num_loss_tokens = int(self.examples.loss_tokens[rows].sum())

        def add_up(micro_batches: Sequence[Group]) -> float:
            self.optimizer.zero_grad(set_to_none=True)
            loss = 0.0
            mine = [row for group in micro_batches for row in group]
            has_trunk = bool(step.trunk and mine)
            shared = {"num_loss_tokens": num_loss_tokens, "length": step.trunk}
            trunk = self.passes.run_trunk(mine, **shared) if has_trunk else None
            for micro_batch in micro_batches:
                self.safe.stop_if_asked(self.state)
                micro_loss = self.passes.accumulate(micro_batch, trunk=trunk, **shared)
                require_finite(micro_loss, "loss", micro_batch)
                loss += micro_loss.item()
            if trunk is not None:
                trunk.backward()
                loss += trunk.loss.item()
            return loss

        if self.sharding.is_on:
            self.optimizer.zero_grad(set_to_none=True)
            with self.world.agreed():
                self.safe.stop_if_asked(self.state)
            loss = self.sharding.add_up(step, self.examples, layout=self.layout, cuts=self.cuts)
        else:
            with self.world.agreed():
                mine = self.world.share(step.micro_batches, self.examples.lengths)
                loss = self.cuts.fit(mine, add_up)
        (loss,) = self.world.sum(loss)
        self.world.sum_gradients(self.sharding.undivided(self.trained))
        norm = self.sharding.clip(self.trained, self.max_grad_norm)
        require_finite(norm, "gradient", rows)
        return loss, norm.item()

    def _apply_gradients(
        self, number: int, rows: Sequence[int], *, loss: float, norm: float
    ) -> Event:
        """Change the weights by the gradient of a step."""
        set_learning_rate(self.optimizer, self.learning_rates[number])
        self.optimizer.step()
        num_tokens = int(self.examples.lengths[rows].sum())
        num_loss_tokens = int(self.examples.loss_tokens[rows].sum())
        self.state.log.count_step(num_tokens, num_loss_tokens)
        self.state.num_skipped_in_row = 0
        return {
            "event": "step",
            "loss": loss,
            "lr": self.learning_rates[number],
            "grad_norm": norm,
            "num_tokens": num_tokens,
            "num_loss_tokens": num_loss_tokens,
            "memory_bytes": peak_memory(self.trained[0].device),
        }

    def _settle_first_size(self) -> None:
        """Choose how large micro-batches may be; a run that goes on keeps to what it had."""
        if self.state.step or not self.steps.is_cut_by_tokens or self.sharding.is_on:
            self.cuts.limit = self.state.micro_batch_limit
            return
        cut = self.passes.from_the_cut
        self.cuts.choose_start(self.model, steps=self.steps, from_the_cut=cut)
        self.state.micro_batch_limit = self.cuts.limit
        self._record_notes()

    def _is_to_measure(self) -> bool:
        done = self.state.step
        if not self.held_out or self.state.measured_at == done:
            return False
        if self.held_out_every is not None and done not in (0, len(self.steps)):
            return done % self.held_out_every == 0
        return self._is_between_epochs()

    def _is_between_epochs(self) -> bool:
        done = self.state.step
        if done in (0, len(self.steps)):
            return True
        return self.steps[done].epoch == self.state.epoch  # which is counted from 1

    def _measure(self) -> None:
        state = self.state
        with self.safe.saved_as_before(state):
            loss, num_loss_tokens = held_out_loss(
                self.model,
                self.held_out,
                layout=self.layout,
                tell=self.notes.append,
                before_batch=lambda: self.safe.stop_if_asked(state),
                world=self.world,
            )
            if not math.isfinite(loss):
                raise held_out_not_finite(loss, state)
        state.take_measurement(loss, self.model, keeps_best=self.keeps_best)
        self._record(
            {
                "event": "held_out",
                "step": state.step,
                "epoch": state.epoch,
                "loss": loss,
                "num_loss_tokens": num_loss_tokens,
            }
        )
        self._record_notes()

    def _sample(self) -> None:
        state = self.state
        is_asked = self.world.is_main or self.sharding.is_on  # what is divided needs all
        if self.samples is None or state.sampled_at == state.step or not is_asked:
            return
        with self.safe.saved_as_before(state):
            records = self.samples(state.step, self._is_between_epochs())
        state.sampled_at = state.step
        for record in records:
            self._record(record)

    def _is_out_of_patience(self) -> bool:
        return self.patience is not None and self.state.num_worse >= self.patience

    def _settle(self) -> None:
        """Choose the weights that are left, and note where the run ended if not at its plan's."""
        state = self.state
        state.log.kept_step = state.step
        if state.step < len(self.steps):
            each = "measurement" if state.num_worse == 1 else "measurements"
            told = f"stopped at step {state.step}: {state.num_worse} {each} without a lower"
            told += f" held-out loss than {state.best_loss:.4f}, of step {state.best_step}"
            self._record({"event": "early_stop", "step": state.step, "summary": told})
        if self.keeps_best and state.best_step != state.step:
            load_trained(state.best_weights, self.model)
            state.log.kept_step = state.best_step
            told = f"kept the weights of step {state.best_step}, of least held-out loss"
            told = "; ".join(filter(None, (told, state.harm())))
            self._record({"event": "keep", "step": state.best_step, "summary": told})
        elif told := "; ".join(filter(None, (state.rise(), state.harm()))):
            self._record({"event": "note", "text": told})

    def _record(self, record: Event) -> None:
        timed = {**record, "seconds": self.safe.seconds()}
        self.state.log.records.append(timed)
        self._tell(timed)

    def _record_notes(self) -> None:
        while self.notes:
            self._record(self.notes.pop(0))

    def _tell(self, event: Event) -> None:
        if self.on_event is not None:
            self.on_event(event)
