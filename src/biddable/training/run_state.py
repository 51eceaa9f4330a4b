"""Hold what changes in a run from step to step, and take it apart for a checkpoint and back.

A state is taken between two steps. With the same settings, rows and base it settles every bit that
follows: trained weights, the optimizer's moments, the random state, and which step is next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from biddable.errors import CheckpointError
from biddable.training.checkpoints import Event, Snapshot
from biddable.training.shards import divide_like

_CPU = "cpu"


@dataclass
class TrainingLog:
    """What happened in a run.

    Attributes:
        records: one dict per step and per measurement of the held-out loss, in order, and those
            of sample answers and notes; each with the ``seconds`` since the start.
        seconds: wall time, the held-out loss included; of all parts of a run that was resumed.
        num_steps: optimizer steps.
        num_skipped: steps that were left out, for their loss or gradient was no number.
        num_tokens: ids that were trained on, padding apart; a row counts once an epoch.
        num_loss_tokens: those of them that were learned.
        learning_rate: the peak.
        learning_rate_reason: how it was chosen.
        kept_step: steps done when the weights were as they are left.
        resumed_at: steps done when the run was taken up again, each time.
    """

    records: list[Event] = field(default_factory=list)
    seconds: float = 0.0
    num_steps: int = 0
    num_skipped: int = 0
    num_tokens: int = 0
    num_loss_tokens: int = 0
    learning_rate: float = 0.0
    learning_rate_reason: str = ""
    kept_step: int = 0
    resumed_at: list[int] = field(default_factory=list)

    def count_step(self, num_tokens: int, num_loss_tokens: int) -> None:
        """Count one optimizer step and what it was taken on."""
        self.num_steps += 1
        self.num_tokens += num_tokens
        self.num_loss_tokens += num_loss_tokens

    @property
    def held_out_losses(self) -> list[float]:
        """The held-out loss before training and at each measurement, nats a token."""
        return [r["loss"] for r in self.records if r["event"] == "held_out"]

    @property
    def kept_held_out_loss(self) -> float | None:
        """The held-out loss of the weights that are left; None if it was not measured."""
        found = [r for r in self.records if r["event"] == "held_out"]
        at_the_step = [r["loss"] for r in found if r["step"] == self.kept_step]
        return at_the_step[-1] if at_the_step else None


@dataclass
class RunState:
    """Hold what changes from step to step, beside the model and its optimizer.

    Attributes:
        log: what happened so far.
        step: steps done, those that were skipped included: the number of the next one.
        epoch: of the last of them, counted from 1; 0 before the first.
        sampled_at: the step at which sample answers were last asked for; -1 for never.
        micro_batch_limit: tokens that a micro-batch may have, for the memory's sake; None for none.
        measured_at: the step at which the held-out loss was last measured; -1 for never.
        num_skipped_in_row: steps skipped since the last that was not.
        best_loss: the least held-out loss after the first step.
        best_step: where that was; 0 for nowhere yet.
        num_worse: measurements since then.
        best_weights: the trained parameters there; empty unless the best are to be kept.
    """

    log: TrainingLog = field(default_factory=TrainingLog)
    step: int = 0
    epoch: int = 0
    sampled_at: int = -1
    micro_batch_limit: int | None = None
    measured_at: int = -1
    num_skipped_in_row: int = 0
    best_loss: float | None = None
    best_step: int = 0
    num_worse: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def take_measurement(self, loss: float, model: nn.Module, *, keeps_best: bool) -> None:
        """Take in a held-out loss; the one before the first step is no candidate.

        Args:
            loss: nats per learned token, finite.
            model: its trained parameters are copied if they are the best, and wanted.
            keeps_best: whether they are.
        """
        self.measured_at = self.step
        if self.step == 0:
            return
        if self.best_loss is not None and loss >= self.best_loss:
            self.num_worse += 1
            return
        self.best_loss, self.best_step, self.num_worse = loss, self.step, 0
        if keeps_best:
            trained = trained_parameters(model)
            self.best_weights = {name: p.detach().clone() for name, p in trained.items()}

    def rise(self) -> str:
        """Say that the held-out loss was lower before than at the last measurement, if it was.

        Example:
            >>> state = RunState(TrainingLog(records=[{"event": "held_out", "loss": 1.5}]))
            >>> state.best_loss, state.best_step = 1.25, 40
            >>> state.rise()
            'the held-out loss was least after step 40, 1.2500, and rose to 1.5000 ...
        """
        losses = self.log.held_out_losses
        if self.best_loss is None or not round(max(losses[-1] - self.best_loss, 0), 4):
            return ""  # or two losses that read alike
        return (
            f"the held-out loss was least after step {self.best_step:,}, {self.best_loss:.4f}, and"
            f" rose to {losses[-1]:.4f} since; training.keep: best would have kept the weights of"
            " that step"
        )

    def harm(self) -> str:
        """Say that the weights that are left have a higher held-out loss than the base, if so.

        Example:
            >>> losses = {0: 2.0, 40: 8.0}
            >>> records = [{"event": "held_out", "step": n, "loss": losses[n]} for n in losses]
            >>> RunState(TrainingLog(records=records, kept_step=40)).harm()
            "the held-out loss of the weights that are left, 8.0000, is above the base's, 2.0000...
        """
        left, losses = self.log.kept_held_out_loss, self.log.held_out_losses
        if left is None or not round(max(left - losses[0], 0), 4):
            return ""
        return (
            f"the held-out loss of the weights that are left, {left:.4f}, is above the base's,"
            f" {losses[0]:.4f}; a lower training.learning_rate (now {self.log.learning_rate:g})"
            " or fewer epochs may help"
        )


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that train, by their names."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def random_state(devices: Sequence[int] = ()) -> dict[str, Tensor]:
    """Take the state of torch's generators, of the CPU and of some GPUs."""
    found = {_CPU: torch.get_rng_state()}
    for device in devices:
        found[f"cuda:{device}"] = torch.cuda.get_rng_state(device)
    return found


def set_random_state(state: Mapping[str, Tensor]) -> None:
    """Bring the generators back to a state; one of a device that is not here is passed over."""
    for name, value in state.items():
        if name == _CPU:
            torch.set_rng_state(value)
        elif int(name.removeprefix("cuda:")) < torch.cuda.device_count():
            torch.cuda.set_rng_state(value, name)


def cuda_devices(model: nn.Module) -> list[int]:
    """List the GPUs that a model lies on, by number."""
    found = {p.device for p in model.parameters() if p.device.type == "cuda"}
    return sorted(device.index or 0 for device in found)


def take_snapshot(
    state: RunState,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    machine: Mapping[str, str],
) -> Snapshot:
    """Take the state of a run between two steps; frozen parameters are no part of it.

    What is divided among processes stays so: each gives its own part.

    Args:
        state: its plain part.
        model: its trained parameters are given, not copied.
        optimizer: its state of each parameter, likewise.
        machine: what the bits depend on beside.
    """
    inner = {f"random/{name}": value for name, value in random_state(cuda_devices(model)).items()}
    for name, values in _optimizer_state(model, optimizer).items():
        for key, value in values.items():
            assert isinstance(value, Tensor), f"{key} of the optimizer is no tensor"
            inner[f"optimizer/{key}/{name}"] = value
    tensors: dict[str, Mapping[str, Tensor]] = {
        "trained": trained_parameters(model),
        "state": inner,
    }
    if state.best_weights:
        tensors["best"] = state.best_weights
    progress = {**vars(state), "log": {**vars(state.log)}, "machine": dict(machine)}
    del progress["best_weights"]
    log = progress["log"].pop("records")
    return Snapshot(state.step, tensors, progress, log)


@torch.no_grad()
def restore(snapshot: Snapshot, model: nn.Module, optimizer: torch.optim.Optimizer) -> RunState:
    """Bring model, optimizer and random state to a snapshot.

    Args:
        snapshot: of the same run.
        model: its trained parameters are overwritten in place.
        optimizer: over the same parameters, fresh.

    Returns:
        The plain part of the state.

    Raises:
        CheckpointError: it is of a model with other trained parameters.
    """
    load_trained(snapshot.tensors["trained"], model)
    inner = snapshot.tensors["state"]
    _load_optimizer(inner, model, optimizer)
    set_random_state(
        {n.removeprefix("random/"): v for n, v in inner.items() if n.startswith("random/")}
    )
    progress = {key: value for key, value in snapshot.progress.items() if key != "machine"}
    log = TrainingLog(**{**progress.pop("log"), "records": list(snapshot.log)})
    log.resumed_at.append(snapshot.step)
    trained = trained_parameters(model)
    found = {n: v.to(trained[n].device) for n, v in snapshot.tensors.get("best", {}).items()}
    best = {name: divide_like(value, trained[name]) for name, value in found.items()}
    return RunState(**progress, log=log, best_weights=best)


@torch.no_grad()
def load_trained(weights: Mapping[str, Tensor], model: nn.Module) -> None:
    """Overwrite the trained parameters of a model.

    Raises:
        CheckpointError: names or shapes are not the model's.
    """
    trained = trained_parameters(model)
    shapes = {name: tuple(p.shape) for name, p in trained.items()}
    saved = {name: tuple(value.shape) for name, value in weights.items()}
    if shapes != saved:
        wrong = sorted(dict(shapes.items() ^ saved.items()))
        raise CheckpointError(
            f"checkpoint: holds {len(saved)} trained parameters, and the model trains"
            f" {len(shapes)}; {wrong[0]} is one that differs. Resume with the config that began it."
        )
    for name, parameter in trained.items():
        parameter.copy_(divide_like(weights[name], parameter))


def _optimizer_state(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, dict[str, Any]]:
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: values for p, values in optimizer.state.items()}


def _load_optimizer(
    inner: Mapping[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in inner.items():
        if key.startswith("optimizer/"):
            _, kind, name = key.split("/", 2)
            found.setdefault(name, {})[kind] = value
    names = {id(p): name for name, p in model.named_parameters()}
    ordered = [p for group in optimizer.param_groups for p in group["params"]]
    state = {
        number: {
            kind: divide_like(value, p) if value.shape == p.shape else value
            for kind, value in found[names[id(p)]].items()
        }
        for number, p in enumerate(ordered)
        if names[id(p)] in found
    }
    # torch's own way in, for it knows which of these lie on the device and which do not
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
