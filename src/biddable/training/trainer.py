"""The one training loop: examples in, a trained model and its log out.

It knows ids and masks, not text; which parameters train was settled on the model before. The loss
of a step is a sum divided once, by the learned tokens of all of its micro-batches, so that how a
step is cut into micro-batches changes nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from biddable.config_training import TrainingConfig
from biddable.data.batching import Batch, BatchPlan, Step, collate
from biddable.data.encoded import EncodedRows
from biddable.data.encoding import Example
from biddable.data.trees import TreeBatch, build_tree
from biddable.errors import DataError, TrainingError
from biddable.models.lora import lora_layers
from biddable.models.loss import Trunk, accumulate_gradient, batch_loss
from biddable.training.activations import Activations, find_activations, open_activations
from biddable.training.layout import PADDED, Layout
from biddable.training.memory import peak_memory
from biddable.training.micro_batches import FittingCuts, Group
from biddable.training.optimizer import build_optimizer, choose_learning_rate, schedule_factor

Event = dict[str, Any]
OnEvent = Callable[[Event], None]
# Called with the steps taken and whether an epoch ends there; its records are kept in the log.
Samples = Callable[[int, bool], Sequence[Event]]


@dataclass
class TrainingLog:
    """What happened in a run.

    Attributes:
        records: one dict per step and per measurement of the held-out loss, in order, and those
            of sample answers and notes; each with the ``seconds`` since the start.
        seconds: wall time, the held-out loss included.
        num_steps: optimizer steps.
        num_tokens: ids that were trained on, padding apart; a row counts once an epoch.
        num_loss_tokens: those of them that were learned.
        learning_rate: the peak.
        learning_rate_reason: how it was chosen.
    """

    records: list[Event] = field(default_factory=list)
    seconds: float = 0.0
    num_steps: int = 0
    num_tokens: int = 0
    num_loss_tokens: int = 0
    learning_rate: float = 0.0
    learning_rate_reason: str = ""

    @property
    def held_out_losses(self) -> list[float]:
        """The held-out loss before training and after each epoch, nats a token."""
        return [r["loss"] for r in self.records if r["event"] == "held_out"]


def train(
    model: nn.Module,
    examples: Sequence[Example],
    *,
    settings: TrainingConfig,
    held_out: Sequence[Example] = (),
    seed: int = 0,
    on_event: OnEvent | None = None,
    pad_id: int = 0,
    samples: Samples | None = None,
) -> TrainingLog:
    """Train a model in place.

    Args:
        model: a transformers causal LM; its parameters with ``requires_grad`` are trained.
        examples: the rows; each has at least one learned token.
        settings: epochs, batch size, learning rate and the like.
        held_out: rows whose loss is measured before training and after each epoch.
        seed: order of rows, and dropout; the global random state is left as it was.
        on_event: called with every record as it is made, and once at the start and the end.
        pad_id: what shorter rows are filled with; any id, for padding is known by position.
        samples: asked before the first step and after each one for records to keep, as answers.

    Returns:
        The log. The model is left in evaluation mode.

    Raises:
        DataError: there are no examples, or one has nothing to learn.
        TrainingError: a loss or gradient is not finite; no weight was touched by it.
    """
    rows = EncodedRows.of(examples)
    _check(model, rows)
    run = _Run(model, rows, settings=settings, seed=seed, on_event=on_event, pad_id=pad_id)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return run.go(held_out, samples or (lambda step, ends_epoch: ()))
        finally:
            model.train(False)


def held_out_loss(
    model: nn.Module,
    examples: Sequence[Example],
    *,
    layout: Layout = PADDED,
    pad_id: int = 0,
    on_event: OnEvent | None = None,
) -> tuple[float, int]:
    """Measure the mean loss of the learned tokens of some rows, without training on them.

    Args:
        model: a transformers causal LM.
        examples: the rows.
        layout: how they are laid out; the loss does not depend on it.
        pad_id: fills shorter rows where they are padded.
        on_event: is told if memory ran out and rows are measured in smaller groups.

    Returns:
        loss: nats per learned token.
        num_loss_tokens: how many there were.
    """
    rows = EncodedRows.of(examples)
    # one "step" over all rows: its micro-batches are sorted and limited in size
    (step,) = BatchPlan(rows, batch_size=len(rows), is_tree=layout.is_tree)
    cuts = FittingCuts(rows, is_tree=layout.is_tree, tell=on_event or (lambda event: None))

    def add_up(micro_batches: Sequence[Group]) -> tuple[float, int]:
        loss_sum, num_loss_tokens = 0.0, 0
        for numbers in micro_batches:
            batch_sum, count = batch_loss(model, layout.batch(rows, numbers, pad_id=pad_id))
            loss_sum += float(batch_sum)
            num_loss_tokens += int(count)
        return loss_sum / max(num_loss_tokens, 1), num_loss_tokens

    was_training = model.training
    model.train(False)
    with torch.no_grad():
        measured = cuts.fit(step.micro_batches, add_up)
    model.train(was_training)
    return measured


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


def planned_activations(
    model: nn.Module, rows: EncodedRows, *, settings: TrainingConfig, num_epochs: int
) -> tuple[Activations | None, str]:
    """Say which states of frozen layers `train` keeps, and why; none are computed."""
    limit_gb = settings.activation_cache_gb
    return find_activations(model, rows, num_epochs=num_epochs, limit_gb=limit_gb)


def peak_learning_rate(model: nn.Module, settings: TrainingConfig) -> tuple[float, str]:
    """Say which learning rate `train` rises to, and why."""
    if settings.learning_rate is not None:
        return settings.learning_rate, "as given"
    return choose_learning_rate(model, _method_of(model))


class _Run:
    """One call of `train`: what stays the same over its steps, and its log."""

    def __init__(
        self,
        model: nn.Module,
        examples: EncodedRows,
        *,
        settings: TrainingConfig,
        seed: int,
        on_event: OnEvent | None,
        pad_id: int,
    ) -> None:
        self.model, self.examples = model, examples
        self.on_event, self.pad_id = on_event, pad_id
        self.layout = Layout.choose(model, settings)
        self.steps = planned_steps(examples, settings=settings, seed=seed, layout=self.layout)
        rate, reason = peak_learning_rate(model, settings)
        self.log = TrainingLog(learning_rate=rate, learning_rate_reason=reason)
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
        self.is_auto = settings.micro_batch_size is None
        self.cuts = FittingCuts(examples, is_tree=self.layout.is_tree, tell=self._record)
        self.started = time.perf_counter()
        self.activation_cache_gb = settings.activation_cache_gb
        self.activations: Activations | None = None
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = build_optimizer(
            model, learning_rate=rate, weight_decay=settings.weight_decay
        )

    def go(self, held_out: Sequence[Example], samples: Samples) -> TrainingLog:
        """Run all steps."""
        self.started = time.perf_counter()
        self._tell({"event": "plan", **self.steps.describe(), "layout": self.layout.reason})
        self._tell(
            {
                "event": "start",
                "num_steps": len(self.steps),
                "num_epochs": self.steps[-1].epoch + 1,
                "num_examples": len(self.examples),
                "num_parameters": sum(p.numel() for p in self.model.parameters()),
                "num_trained_parameters": sum(p.numel() for p in self.trained),
                "learning_rate": self.log.learning_rate,
                "learning_rate_reason": self.log.learning_rate_reason,
            }
        )
        self._measure(held_out, epoch=0)
        self._record_all(samples(0, True))
        self.activations, kept = open_activations(
            self.model,
            self.examples,
            num_epochs=self.steps[-1].epoch + 1,
            limit_gb=self.activation_cache_gb,
        )
        if kept:
            self._tell({"event": "activations", "text": kept})
        self.model.train(True)
        if self.is_auto:
            self._choose_first_size()
        for number, step in enumerate(self.steps):
            self._record(self._take_step(number, step))
            is_last = number + 1 == len(self.steps)
            ends_epoch = is_last or self.steps[number + 1].epoch != step.epoch
            if ends_epoch:
                self._measure(held_out, epoch=step.epoch + 1)
            self._record_all(samples(number + 1, ends_epoch))
        self.log.seconds = _since(self.started)
        self._tell({"event": "end", "seconds": self.log.seconds})
        return self.log

    def _take_step(self, number: int, step: Step) -> Event:
        """Add up the gradient of a step's micro-batches, divided once, and apply it."""
        rows = step.rows
        num_loss_tokens = int(self.examples.loss_tokens[rows].sum())

        def add_up(micro_batches: Sequence[Group]) -> float:
            self.optimizer.zero_grad(set_to_none=True)
            loss = 0.0
            trunk = self._run_trunk(step, num_loss_tokens) if step.trunk else None
            for micro_batch in micro_batches:
                batch = self.layout.batch(
                    self.examples, micro_batch, pad_id=self.pad_id, trunk=step.trunk
                )
                with self._from_the_cut(batch, micro_batch):
                    micro_loss = accumulate_gradient(
                        self.model, batch, num_loss_tokens=num_loss_tokens, trunk=trunk
                    )
                self._require_finite(micro_loss, "loss", number, micro_batch)
                loss += micro_loss.item()
            if trunk is not None:
                trunk.backward()
                loss += trunk.loss.item()
            return loss

        loss = self.cuts.fit(step.micro_batches, add_up)
        norm = nn.utils.clip_grad_norm_(self.trained, self.max_grad_norm)
        self._require_finite(norm, "gradient", number, rows)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rates[number]
        self.optimizer.step()

        num_tokens = int(self.examples.lengths[rows].sum())
        self.log.num_steps += 1
        self.log.num_tokens += num_tokens
        self.log.num_loss_tokens += num_loss_tokens
        return {
            "event": "step",
            "step": number + 1,
            "epoch": step.epoch + 1,
            "loss": loss,
            "lr": self.learning_rates[number],
            "grad_norm": norm.item(),
            "num_tokens": num_tokens,
            "num_loss_tokens": num_loss_tokens,
            "memory_bytes": peak_memory(self.trained[0].device),
        }

    def _run_trunk(self, step: Step, num_loss_tokens: int) -> Trunk:
        tree = build_tree(self.examples, step.rows, trunk=step.trunk, only_trunk=True)
        with self._from_the_cut(tree, step.rows):
            return Trunk(self.model, tree, num_loss_tokens=num_loss_tokens)

    def _choose_first_size(self) -> None:
        shortest = int(self.examples.lengths.argmin())
        batch = collate([self.examples[shortest]], self.pad_id)
        with self._from_the_cut(batch, [shortest]):
            self.cuts.choose_start(self.model, batch, steps=self.steps)

    def _from_the_cut(
        self, batch: Batch | TreeBatch, numbers: Sequence[int]
    ) -> AbstractContextManager[None]:
        if self.activations is None:
            return nullcontext()
        return self.activations.applied(batch, numbers)

    def _measure(self, held_out: Sequence[Example], *, epoch: int) -> None:
        if not held_out:
            return
        loss, num_loss_tokens = held_out_loss(
            self.model,
            held_out,
            layout=self.layout,
            pad_id=self.pad_id,
            on_event=self._record,
        )
        if not math.isfinite(loss):
            raise TrainingError(
                f"after step {self.log.num_steps}: the held-out loss is {loss}; expected a finite "
                "number. Look at the held-out rows, or lower training.learning_rate "
                f"(now {self.log.learning_rate:g})."
            )
        self._record(
            {
                "event": "held_out",
                "step": self.log.num_steps,
                "epoch": epoch,
                "loss": loss,
                "num_loss_tokens": num_loss_tokens,
            }
        )

    def _record(self, record: Event) -> None:
        timed = {**record, "seconds": _since(self.started)}
        self.log.records.append(timed)
        self._tell(timed)

    def _record_all(self, records: Sequence[Event]) -> None:
        for record in records:
            self._record(record)

    def _tell(self, event: Event) -> None:
        if self.on_event is not None:
            self.on_event(event)

    def _require_finite(
        self, value: torch.Tensor, what: str, number: int, rows: Sequence[int]
    ) -> None:
        if bool(torch.isfinite(value)):
            return
        self.optimizer.zero_grad(set_to_none=True)
        names = [self.examples[n].source or f"row {n + 1}" for n in rows]
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        raise TrainingError(
            f"step {number + 1}: the {what} is {value.item()}; expected a finite number. The rows "
            f"of this batch: {shown}. Lower training.learning_rate (now "
            f"{self.log.learning_rate:g}), or look at these rows."
        )


def _check(model: nn.Module, rows: EncodedRows) -> None:
    if not rows:
        raise DataError("there are no rows to train on.")
    empty = (rows.loss_tokens == 0).nonzero()[0]
    if len(empty):
        name = rows.sources[empty[0]] or f"row {empty[0] + 1}"
        raise DataError(f"{name}: nothing in it is learned; it needs an answer.")
    if not any(p.requires_grad for p in model.parameters()):
        raise TrainingError("every parameter of the model is frozen; there is nothing to train.")


def _method_of(model: nn.Module) -> str:
    if lora_layers(model):
        return "lora"
    return "full" if all(p.requires_grad for p in model.parameters()) else "freeze"


def _since(started: float) -> float:
    return round(time.perf_counter() - started, 4)
