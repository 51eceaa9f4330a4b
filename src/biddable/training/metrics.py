"""Listen to a run: a progress bar for people, JSON lines for programs.

Both are called with every event of the trainer; neither changes anything.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from biddable.errors import CheckpointError

_SMOOTHING = 0.9


class ProgressBar:
    """Show steps done, loss, tokens per second and time left, on stderr.

    Use as a context manager, so that the terminal is whole again after an error or Ctrl-C.
    """

    def __init__(self, console: Console | None = None) -> None:
        """Take a console, or make one on stderr."""
        self._progress = Progress(
            TextColumn("[bold]train"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=console or Console(stderr=True),
        )
        self._task = self._progress.add_task("train", total=None, figures="")
        self._smooth_loss: float | None = None
        self._num_tokens = 0
        self._held_out = ""

    def __enter__(self) -> ProgressBar:
        """Draw the bar."""
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the bar as it stands and give the terminal back."""
        self._progress.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        """Take in one event of the trainer; unknown ones are passed over."""
        kind = event["event"]
        if kind == "start":
            self._num_tokens = event["num_tokens"]  # of the part before, where a run is resumed
            self._progress.update(self._task, total=event["num_steps"], completed=event["step"])
            self._progress.console.print(
                f"learning rate {event['learning_rate']:g} ({event['learning_rate_reason']}); "
                f"{event['num_trained_parameters']:,} of {event['num_parameters']:,} parameters "
                f"are trained, {event['num_examples']:,} examples",
                highlight=False,
            )
        elif kind == "step":
            self._show_step(event)
        elif kind == "held_out":
            self._held_out = f"  held-out {event['loss']:.3f}"
            self._progress.console.print(
                f"epoch {event['epoch']}: held-out loss {event['loss']:.4f}", highlight=False
            )

    def _show_step(self, event: dict[str, Any]) -> None:
        before = event["loss"] if self._smooth_loss is None else self._smooth_loss
        self._smooth_loss = _SMOOTHING * before + (1 - _SMOOTHING) * event["loss"]
        self._num_tokens += event["num_tokens"]
        rate = self._num_tokens / max(event["seconds"], 1e-9)
        figures = f"loss {self._smooth_loss:.3f}{self._held_out}  {rate:,.0f} tok/s"
        self._progress.update(self._task, completed=event["step"], figures=figures)


class JsonlWriter:
    """Append every event to a file as one line of JSON, written out at once."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Start an empty file; its folder exists."""
        self._path = Path(path)
        self._write("", mode="w")

    def __call__(self, event: dict[str, Any]) -> None:
        """Append one event."""
        self._write(json.dumps(event, ensure_ascii=False, allow_nan=False) + "\n", mode="a")

    def _write(self, text: str, *, mode: str) -> None:
        try:
            with self._path.open(mode, encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise CheckpointError(f"{self._path}: cannot be written: {error}.") from error
