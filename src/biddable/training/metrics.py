"""Listen to a run: take in its events, and know the figures that its watchers are shown.

Nothing here changes a run. Speed and time left come from the ``seconds`` that records carry, so
that the same log gives the same figures.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from biddable.errors import CheckpointError

_LOSS_MEMORY, _PACE_MEMORY = 0.9, 0.95  # what each step leaves of the average before it


class Figures:
    """Keep what the events so far come to.

    Attributes:
        num_steps: of the whole run; 0 before its start.
        step: steps that were taken.
        num_epochs: of the whole run.
        epoch: passes that are over.
        losses: after each step, that of the last ones, smoothed, nats a learned token.
        held_out: as last measured, nats a learned token.
        lr: of the last step.
        grad_norm: of the last step, before it was cut.
        memory_bytes: the most that was in use.
        seconds: since the start, those of a resumed run's earlier parts included.
        is_resumed: it goes on where an earlier part was cut off.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self.num_steps = self.step = self.num_epochs = self.epoch = self.memory_bytes = 0
        self.losses: list[float] = []
        self.held_out: float | None = None
        self.lr = self.grad_norm = self.seconds = 0.0
        self.is_resumed = False
        self._loss_sum = self._loss_weight = 0.0
        # of the last steps, each fading: seconds, tokens, learned tokens, and their number
        self._pace = [0.0, 0.0, 0.0, 0.0]
        self._known_until: float | None = None  # up to when every second is accounted for
        self._pauses = 0.0  # seconds between steps, for measurements and sample answers
        self._num_pauses = 0  # the first, before any step, and as a rule one at each epoch's end
        self._is_pausing = False

    def __call__(self, event: dict[str, Any]) -> None:
        """Take in one event; unknown ones are passed over.

        Example:
            >>> figures = Figures()
            >>> figures({"event": "start", "num_steps": 4})
            >>> step = {"event": "step", "epoch": 1, "loss": 2.0, "lr": 1e-3, "grad_norm": 1.0}
            >>> figures({**step, "step": 1, "seconds": 2, "num_tokens": 8, "num_loss_tokens": 4})
            >>> figures.tokens_per_second, figures.loss_tokens_per_second, figures.seconds_left
            (4.0, 2.0, 6.0)
        """
        kind = event["event"]
        if kind == "start":
            self.num_steps, self.num_epochs = event["num_steps"], event.get("num_epochs", 0)
            self.seconds, self.is_resumed = event.get("seconds", 0.0), event.get("step", 0) > 0
            return
        if "seconds" not in event or kind == "note":  # a note may come in the middle of a step
            return
        self.seconds = event["seconds"]
        before, self._known_until = self._known_until, self.seconds
        if before is None and event.get("step", 2) <= 1:
            before = 0.0  # a run that goes on counts its seconds on, so nothing is known of these
        passed = None if before is None else self.seconds - before
        if kind == "step":
            self._take_step(event, passed)
        elif passed is not None:
            self._pauses += passed
            self._num_pauses += 0 if self._is_pausing else 1
            self._is_pausing = True
        if kind == "held_out":
            self.held_out, self.epoch = event["loss"], event["epoch"]

    @property
    def tokens_per_second(self) -> float:
        """Tell how many ids are trained on in a second of a step, padding apart."""
        return self._pace[1] / self._pace[0] if self._pace[0] else 0.0

    @property
    def loss_tokens_per_second(self) -> float:
        """Tell how many of them are learned."""
        return self._pace[2] / self._pace[0] if self._pace[0] else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Guess the rest of the run: steps at the pace of the last ones, pauses as before."""
        seconds, *_, count = self._pace
        if not count or not self.num_steps:
            return None
        left = (self.num_steps - self.step) * seconds / count
        pause = self._pauses / max(self._num_pauses, 1)
        return left + max(self.num_epochs - self.epoch, 0) * pause

    def _take_step(self, event: dict[str, Any], seconds: float | None) -> None:
        self.epoch, self._is_pausing = event["epoch"] - 1, False
        self.step, self.lr, self.grad_norm = event["step"], event["lr"], event["grad_norm"]
        self.memory_bytes = event.get("memory_bytes", 0)
        self._loss_sum = _LOSS_MEMORY * self._loss_sum + (1 - _LOSS_MEMORY) * event["loss"]
        self._loss_weight = _LOSS_MEMORY * self._loss_weight + 1 - _LOSS_MEMORY
        self.losses.append(self._loss_sum / self._loss_weight)
        if seconds is not None:
            new = (seconds, event["num_tokens"], event["num_loss_tokens"], 1)
            kept = (_PACE_MEMORY * old for old in self._pace)
            self._pace = [old + one for old, one in zip(kept, new, strict=True)]


def short_count(number: float) -> str:
    """Write a count in about five characters.

    Example:
        >>> [short_count(n) for n in (0, 87.4, 1234, 45_678, 999_999, 12_345_678)]
        ['0', '87', '1,234', '45.7k', '1.0M', '12.3M']
    """
    if number < 10_000:
        return f"{number:,.0f}"
    unit, name = (1e3, "k") if number < 999_950 else (1e6, "M")
    return f"{number / unit:.1f}{name}"


def clock(seconds: float) -> str:
    """Write a time as people do.

    Example:
        >>> [clock(seconds) for seconds in (5.2, 154, 3754, 200_000)]
        ['0:06', '2:34', '1:02:34', '2 d 8 h']
    """
    if seconds >= 48 * 3600:
        return "{} d {} h".format(*divmod(round(seconds / 3600), 24))
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class JsonlWriter:
    """Append every event to a file as one line of JSON, written out at once."""

    def __init__(self, path: str | os.PathLike[str], *, goes_on: bool = False) -> None:
        """Start a file, or go on with the one that is there.

        Args:
            path: its folder exists.
            goes_on: what the file holds is kept.
        """
        self._path = Path(path)
        self._write("", mode="a" if goes_on else "w")

    def __call__(self, event: dict[str, Any]) -> None:
        """Append one event."""
        self._write(json.dumps(event, ensure_ascii=False, allow_nan=False) + "\n", mode="a")

    def _write(self, text: str, *, mode: str) -> None:
        try:
            with self._path.open(mode, encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise CheckpointError(f"{self._path}: cannot be written: {error}.") from error
