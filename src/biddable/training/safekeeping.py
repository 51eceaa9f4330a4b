"""Resume a run, and save it: when that is due, and when it breaks off."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from biddable.errors import CheckpointError, RunStopped, TrainingError
from biddable.training.checkpoints import Checkpoints, Event, Snapshot
from biddable.training.distributed import ALONE, World
from biddable.training.identity import describe_machine
from biddable.training.parts import read_parts, require_shared, save_in_parts
from biddable.training.run_state import (
    RunState,
    cuda_devices,
    random_state,
    restore,
    set_random_state,
    take_snapshot,
)
from biddable.training.shards import is_divided

# What ends a step before its gradient is applied: out of memory (a RuntimeError on a GPU), a disk
_BREAKS = (RunStopped, TrainingError, RuntimeError, OSError, MemoryError)


class Safekeeping:
    """Stand between the training loop and its checkpoints; without any, do nothing."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        checkpoints: Checkpoints | None,
        num_steps: int,
        tell: Callable[[Event], None],
        world: World = ALONE,
    ) -> None:
        """Take what is saved, and where; start the clock.

        Args:
            model: trained in place.
            optimizer: its own.
            checkpoints: None saves nothing.
            num_steps: of the whole run.
            tell: called with what happens to checkpoints; none of it is part of the log.
            world: whose first process saves for all.
        """
        self._model, self._optimizer, self._tell = model, optimizer, tell
        self._checkpoints, self._num_steps, self._world = checkpoints, num_steps, world
        self._devices = cuda_devices(model)
        self._is_divided = any(is_divided(p) for p in model.parameters())
        self._started = time.perf_counter()

    def resume(self) -> RunState | None:
        """Bring model, optimizer and random state to where the run was cut off, if it was."""
        if self._checkpoints is None:
            return None
        checkpoints, world = self._checkpoints, self._world
        if self._is_divided and checkpoints.can_save:
            require_shared(checkpoints, world)
        snapshot = checkpoints.found
        checkpoints.found = None  # its memory is let go
        if snapshot is not None and snapshot.is_in_parts and not self._is_divided:
            snapshot = self._with_parts(snapshot, None)  # the others need not see this disk
        snapshot = world.from_main(snapshot)
        if snapshot is None:
            return None
        if snapshot.is_in_parts:
            snapshot = self._with_parts(snapshot, world)
        state = restore(snapshot, self._model, self._optimizer)
        self._started -= state.log.seconds
        told = f"resumed at step {state.step:,} of {self._num_steps:,}"
        then, now = snapshot.progress["machine"], describe_machine(self._model)
        changed = [f"{k} was {then[k]}, and is {now[k]}" for k in now if then.get(k) != now[k]]
        if changed:
            told += f"; not bit for bit as without the break: {', '.join(changed)}"
        self._tell({"event": "resume", "step": state.step, "summary": told})
        return state

    def seconds(self) -> float:
        """Give the wall time of the run, that of its earlier parts included."""
        return round(time.perf_counter() - self._started, 4)

    def stop_if_asked(self, state: RunState) -> None:
        """End the run here if a signal asked for it.

        Raises:
            RunStopped: it did.
        """
        if self._checkpoints is not None and self._checkpoints.signals.asked is not None:
            raise self._checkpoints.signals.stopped(step=state.step, num_steps=self._num_steps)

    def save_if_due(self, state: RunState, *, is_last: bool = False) -> None:
        """Save a state between two steps, if it is time to.

        A disk that refuses is told and ends nothing: the checkpoints before stand, and the next
        one may go well.
        """
        checkpoints = self._checkpoints
        if checkpoints is None:
            return
        is_due = checkpoints.is_due(state.step, is_last=is_last)
        if self._is_divided:  # all take part, when the first one's clock says so
            (is_due,) = map(bool, self._world.sum(is_due and self._world.is_main))
        if not is_due:
            return
        try:
            self._save(checkpoints, state)
        except CheckpointError as error:
            told = f"training goes on, but could not be saved: {error}"
            self._tell({"event": "checkpoint", "step": state.step, "summary": told})

    @contextmanager
    def saved_as_before(self, state: RunState) -> Iterator[None]:
        """Save the state as it was before, if what is done within breaks off.

        Within, nothing may change but gradients and the random state, which is brought back.

        Raises:
            CheckpointError: the run was asked to stop, and cannot be saved.
        """
        checkpoints = self._checkpoints
        if checkpoints is None or not checkpoints.can_save:
            yield
            return
        before = random_state(self._devices)
        try:
            yield
        except _BREAKS as error:
            self._optimizer.zero_grad(set_to_none=True)
            set_random_state(before)
            try:
                self._save(checkpoints, state)
            except CheckpointError:
                if isinstance(error, RunStopped):  # it would say that the run is saved
                    raise
            finally:
                self._world.wait()
            raise

    def _save(self, checkpoints: Checkpoints, state: RunState) -> None:
        if self._is_divided and self._world.is_broken:
            return  # a part of the state is lost with the process that held it
        state.log.seconds = self.seconds()
        machine = describe_machine(self._model)
        snapshot = take_snapshot(state, self._model, self._optimizer, machine=machine)
        if self._is_divided:
            save_in_parts(checkpoints, snapshot, self._world)
        elif self._world.is_main:
            checkpoints.save(snapshot)

    def _with_parts(self, snapshot: Snapshot, world: World | None) -> Snapshot:
        """Read the tensors of a snapshot: a process's own parts, or without a world all of them."""
        assert self._checkpoints is not None
        folder = self._checkpoints.path(snapshot.step)
        tensors = read_parts(folder, self._model, world=world)
        return replace(snapshot, tensors=tensors, is_in_parts=False)
