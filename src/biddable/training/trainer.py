"""The one training loop: examples in, a trained model and its log out.

It knows ids and masks, not text; which parameters train was settled on the model before. The loss
of a step is a sum divided once, by the learned tokens of all of its micro-batches, so that how a
step is cut into micro-batches changes nothing.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import nn

from biddable.config_training import TrainingConfig
from biddable.data.batching import Batch, BatchPlan, Step
from biddable.data.encoded import EncodedRows
from biddable.data.encoding import Example
from biddable.data.trees import TreeBatch, build_tree
from biddable.errors import ConfigError, DataError, TrainingError
from biddable.models.lora import lora_layers
from biddable.models.loss import Trunk, accumulate_gradient
from biddable.training.activations import Activations, open_activations
from biddable.training.checkpoints import Checkpoints, Event
from biddable.training.held_out import held_out_loss
from biddable.training.layout import Layout
from biddable.training.nonfinite import NotFiniteError, leave_out, require_finite
from biddable.training.optimizer import build_optimizer, choose_learning_rate, schedule_factor
from biddable.training.run_state import (
    RunState,
    TrainingLog,
    cuda_devices,
    load_trained,
    trained_parameters,
)
from biddable.training.safekeeping import Safekeeping

OnEvent = Callable[[Event], None]


def train(
    model: nn.Module,
    examples: Sequence[Example],
    *,
    settings: TrainingConfig,
    held_out: Sequence[Example] = (),
    seed: int = 0,
    on_event: OnEvent | None = None,
    pad_id: int = 0,
    checkpoints: Checkpoints | None = None,
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
        pad_id: what shorter rows are filled with; any id, for padding is known by position.
        checkpoints: where the run saves itself, and goes on from; None saves nothing.

    Returns:
        The log. The model is left in evaluation mode.

    Raises:
        ConfigError: a setting needs held-out rows, and there are none.
        DataError: there are no examples, or one has nothing to learn.
        TrainingError: a loss or gradient is not finite; no weight was touched by it.
        RunStopped: a signal asked for it, and the run is saved.
    """
    rows = EncodedRows.of(examples)
    _check(model, rows)
    _check_settings(settings, held_out)
    run = _Run(
        model,
        rows,
        settings=settings,
        held_out=held_out,
        seed=seed,
        on_event=on_event,
        pad_id=pad_id,
        checkpoints=checkpoints,
    )
    with torch.random.fork_rng(devices=cuda_devices(model)):
        torch.manual_seed(seed)
        try:
            return run.go()
        finally:
            model.train(False)


def planned_steps(
    rows: EncodedRows, *, settings: TrainingConfig, seed: int, layout: Layout
) -> BatchPlan:
    """Plan the steps that `train` takes with these arguments."""
    return BatchPlan(
        rows,
        batch_size=settings.batch_size,
        micro_batch_size=settings.micro_batch_size,
        epochs=settings.epochs,
        seed=seed,
        is_tree=layout.is_tree,
    )


def peak_learning_rate(model: nn.Module, settings: TrainingConfig) -> tuple[float, str]:
    """Say which learning rate `train` rises to, and why."""
    if settings.learning_rate is not None:
        return settings.learning_rate, "as given"
    return choose_learning_rate(model, _method_of(model))


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
        pad_id: int,
        checkpoints: Checkpoints | None,
    ) -> None:
        self.model, self.examples, self.held_out = model, examples, held_out
        self.on_event, self.pad_id = on_event, pad_id
        self.layout = Layout.choose(model, settings)
        self.steps = planned_steps(examples, settings=settings, seed=seed, layout=self.layout)
        rate, reason = peak_learning_rate(model, settings)
        self.state = RunState(TrainingLog(learning_rate=rate, learning_rate_reason=reason))
        self.learning_rates = [
            rate
            * schedule_factor(
                number,
                len(self.steps),
                schedule=settings.schedule,
                warmup_share=settings.warmup_share,
            )
            for number in range(len(self.steps))
        ]
        self.max_grad_norm = settings.max_grad_norm
        self.may_skip = settings.on_nonfinite == "skip"
        self.held_out_every, self.patience = settings.held_out_every, settings.patience
        self.keeps_best = settings.keep == "best"
        self.activation_cache_gb = settings.activation_cache_gb
        self.activations: Activations | None = None
        self.trained = list(trained_parameters(model).values())
        self.optimizer = build_optimizer(
            model, learning_rate=rate, weight_decay=settings.weight_decay
        )
        self.safe = Safekeeping(
            model,
            self.optimizer,
            checkpoints=checkpoints,
            num_steps=len(self.steps),
            tell=self._tell,
        )

    def go(self) -> TrainingLog:
        """Run all steps that are left."""
        self._tell({"event": "plan", **self.steps.describe(), "layout": self.layout.reason})
        state = self.state = self.safe.resume() or self.state
        self._tell(
            {
                "event": "start",
                "step": state.step,
                "num_tokens": state.log.num_tokens,
                "num_steps": len(self.steps),
                "num_examples": len(self.examples),
                "num_parameters": sum(p.numel() for p in self.model.parameters()),
                "num_trained_parameters": sum(p.numel() for p in self.trained),
                "learning_rate": state.log.learning_rate,
                "learning_rate_reason": state.log.learning_rate_reason,
            }
        )
        self.activations, kept = open_activations(
            self.model,
            self.examples,
            num_epochs=self.steps[len(self.steps) - 1].epoch + 1,
            limit_gb=self.activation_cache_gb,
        )
        if kept:
            self._tell({"event": "activations", "text": kept})
        self.model.train(True)
        while True:
            if self._is_to_measure():
                self._measure()
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
        number = self.state.step
        step = self.steps[number]
        rows = step.rows
        with self.safe.saved_as_before(self.state):
            record: Event = {}
            try:
                loss, norm = self._add_gradients(step, rows)
            except NotFiniteError as found:
                self.optimizer.zero_grad(set_to_none=True)
                record = leave_out(found, self.state, self.examples, may_skip=self.may_skip)
        record = record or self._apply_gradients(number, rows, loss=loss, norm=norm)
        self.state.step, self.state.epoch = number + 1, step.epoch + 1
        seen = zlib.crc32(np.array(rows, "<i8").tobytes())
        place = {"event": record.pop("event"), "step": number + 1, "epoch": step.epoch + 1}
        # logs that agree in "rows" are of runs that saw the same rows in the same order
        self._record({**place, **record, "rows": f"{seen:08x}", "seconds": self.safe.seconds()})

    def _add_gradients(self, step: Step, rows: Sequence[int]) -> tuple[float, float]:
        """Run forward and backward over the micro-batches of a step: its loss and gradient norm."""
        num_loss_tokens = int(self.examples.loss_tokens[rows].sum())
        self.optimizer.zero_grad(set_to_none=True)
        loss = 0.0
        trunk = self._run_trunk(step, num_loss_tokens) if step.trunk else None
        for micro_batch in step.micro_batches:
            self.safe.stop_if_asked(self.state)
            batch = self.layout.batch(
                self.examples, micro_batch, pad_id=self.pad_id, trunk=step.trunk
            )
            with self._from_the_cut(batch, micro_batch):
                micro_loss = accumulate_gradient(
                    self.model, batch, num_loss_tokens=num_loss_tokens, trunk=trunk
                )
            require_finite(micro_loss, "loss", micro_batch)
            loss += micro_loss.item()
        if trunk is not None:
            trunk.backward()
            loss += trunk.loss.item()
        norm = nn.utils.clip_grad_norm_(self.trained, self.max_grad_norm)
        require_finite(norm, "gradient", rows)
        return loss, norm.item()

    def _apply_gradients(
        self, number: int, rows: Sequence[int], *, loss: float, norm: float
    ) -> Event:
        """Change the weights by the gradient of a step."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rates[number]
        self.optimizer.step()
        num_tokens = int(self.examples.lengths[rows].sum())
        num_loss_tokens = int(self.examples.loss_tokens[rows].sum())
        log = self.state.log
        log.num_steps += 1
        log.num_tokens += num_tokens
        log.num_loss_tokens += num_loss_tokens
        self.state.num_skipped_in_row = 0
        return {
            "event": "step",
            "loss": loss,
            "lr": self.learning_rates[number],
            "grad_norm": norm,
            "num_tokens": num_tokens,
            "num_loss_tokens": num_loss_tokens,
        }

    def _run_trunk(self, step: Step, num_loss_tokens: int) -> Trunk:
        tree = build_tree(self.examples, step.rows, trunk=step.trunk, only_trunk=True)
        with self._from_the_cut(tree, step.rows):
            return Trunk(self.model, tree, num_loss_tokens=num_loss_tokens)

    def _from_the_cut(
        self, batch: Batch | TreeBatch, numbers: Sequence[int]
    ) -> AbstractContextManager[None]:
        if self.activations is None:
            return nullcontext()
        return self.activations.applied(batch, numbers)

    def _is_to_measure(self) -> bool:
        done = self.state.step
        if not self.held_out or self.state.measured_at == done:
            return False
        if done in (0, len(self.steps)):
            return True
        if self.held_out_every is not None:
            return done % self.held_out_every == 0
        return self.steps[done].epoch == self.state.epoch  # which is counted from 1

    def _measure(self) -> None:
        state = self.state
        with self.safe.saved_as_before(state):
            loss, num_loss_tokens = held_out_loss(
                self.model,
                self.held_out,
                layout=self.layout,
                pad_id=self.pad_id,
                before_batch=lambda: self.safe.stop_if_asked(state),
            )
            if not math.isfinite(loss):
                raise TrainingError(
                    f"after step {state.step}: the held-out loss is {loss}; expected a finite "
                    "number. Look at the held-out rows, or lower training.learning_rate "
                    f"(now {state.log.learning_rate:g})."
                )
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

    def _is_out_of_patience(self) -> bool:
        return self.patience is not None and self.state.num_worse >= self.patience

    def _settle(self) -> None:
        """Choose the weights that are left, and note where the run ended if not at its plan's."""
        state = self.state
        state.log.kept_step = state.step
        if state.step < len(self.steps):
            told = f"stopped at step {state.step}: {state.num_worse} measurements without a lower"
            told += f" held-out loss than {state.best_loss:.4f}, of step {state.best_step}"
            self._record({"event": "early_stop", "step": state.step, "summary": told})
        if self.keeps_best and state.best_step != state.step:
            load_trained(state.best_weights, self.model)
            state.log.kept_step = state.best_step
            told = f"kept the weights of step {state.best_step}, of least held-out loss"
            self._record({"event": "keep", "step": state.best_step, "summary": told})

    def _record(self, record: Event) -> None:
        self.state.log.records.append(record)
        self._tell(record)

    def _tell(self, event: Event) -> None:
        if self.on_event is not None:
            self.on_event(event)


def _check(model: nn.Module, rows: EncodedRows) -> None:
    if not rows:
        raise DataError("there are no rows to train on.")
    empty = (rows.loss_tokens == 0).nonzero()[0]
    if len(empty):
        name = rows.sources[empty[0]] or f"row {empty[0] + 1}"
        raise DataError(f"{name}: nothing in it is learned; it needs an answer.")
    if not any(p.requires_grad for p in model.parameters()):
        raise TrainingError("every parameter of the model is frozen; there is nothing to train.")


def _check_settings(settings: TrainingConfig, held_out: Sequence[Example]) -> None:
    try:
        if not held_out:
            settings.refuse_without_held_out()
    except ValueError as error:
        raise ConfigError(f"{error}.") from error


def _method_of(model: nn.Module) -> str:
    if lora_layers(model):
        return "lora"
    return "full" if all(p.requires_grad for p in model.parameters()) else "freeze"
