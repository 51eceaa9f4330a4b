"""Send the figures of a run to TensorBoard or Weights & Biases.

Each is one callable that takes every event of the trainer. Their packages are extras, imported when
they are asked for; what is missing is said before anything else is done.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from biddable.config_watch import WatchConfig
from biddable.errors import ConfigError, how_to_install
from biddable.training.metrics import Figures

Event = dict[str, Any]
OnEvent = Callable[[Event], None]

_PROJECT = "biddable"


class Sink(Protocol):
    """Take events in, and finish when the run is over."""

    def __call__(self, event: Event) -> None:
        """Take in one event; unknown ones are passed over."""

    def close(self) -> None:
        """Write what is left."""


class TensorBoard:
    """Write event files into a folder beside the run folder: ``runs/tensorboard/a`` for ``runs/a``.

    A run that goes on, or is made anew, hides what an older one of its name wrote from there on.
    """

    def __init__(self, run: Path, config: Mapping[str, Any]) -> None:
        """Load the package; the files are begun with the first record.

        Raises:
            ImportError: it is not installed.
        """
        from torch.utils.tensorboard import SummaryWriter

        self._make = SummaryWriter
        self._folder = run.parent / "tensorboard" / run.name
        self._config = config
        self._figures = Figures()
        self._writer: SummaryWriter | None = None

    def __call__(self, event: Event) -> None:
        """Write the numbers of a step or a measurement, and sample answers as text."""
        self._figures(event)
        if event["event"] not in ("step", "held_out", "sample"):
            return
        if self._writer is None:
            self._writer = self._make(str(self._folder), purge_step=event["step"])
            settings = "".join(f"    {line}\n" for line in _lines(self._config))
            self._writer.add_text("config", settings, event["step"])
        for name, value in numbers_of(event, self._figures).items():
            self._writer.add_scalar(name, value, event["step"])
        if event["event"] == "sample":
            text = f"**{event['prompt']}**\n\n{event['answer']}"
            self._writer.add_text(f"sample/{event['prompt'][:40]}", text, event["step"])
        if event["event"] != "step":
            self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()


class Wandb:
    """Log to Weights & Biases, which reads its own settings (``WANDB_MODE``, ``WANDB_PROJECT``)."""

    def __init__(self, run: Path, config: Mapping[str, Any]) -> None:
        """Load the package and open a run, so that a missing login is told before training.

        Raises:
            ImportError: it is not installed.
        """
        import wandb

        project = os.environ.get("WANDB_PROJECT", _PROJECT)
        self._run = wandb.init(project=project, name=run.name, config=dict(config))
        self._figures = Figures()
        self._pending: dict[str, Any] = {}
        self._step = 0

    def __call__(self, event: Event) -> None:
        """Log all of a step in one row: its own numbers, measurements and sample answers."""
        self._figures(event)
        kind = event["event"]
        if kind not in ("step", "held_out", "sample"):
            return
        if event["step"] != self._step:
            self._send()
        self._step = event["step"]
        self._pending |= numbers_of(event, self._figures)
        if kind == "sample":
            self._pending[f"sample/{event['prompt'][:40]}"] = event["answer"]

    def close(self) -> None:
        """Send what is left and close the run."""
        self._send()
        self._run.finish()

    def _send(self) -> None:
        if self._pending:
            self._run.log(self._pending, step=self._step)
        self._pending = {}


SINKS: dict[str, Callable[[Path, Mapping[str, Any]], Sink]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
}


@contextmanager
def reporting(
    settings: WatchConfig, run: Path, *, config: Mapping[str, Any], on_event: OnEvent
) -> Iterator[OnEvent]:
    """Open the sinks of a config, and give one callable that feeds them all.

    A sink that fails later is left out from then on, with a note: no run is lost to it.

    Args:
        settings: which sinks.
        run: the run folder; its name is the run's.
        config: the resolved config, kept with the figures.
        on_event: is called first with every event, and with the notes.

    Raises:
        ConfigError: a sink's package is missing, or it cannot start.
    """
    sinks: dict[str, Sink] = {}

    def tell(event: Event) -> None:
        on_event(event)
        for name, sink in list(sinks.items()):
            try:
                sink(event)
            except Exception as error:
                del sinks[name]
                text = f"{name} failed and is given no more: {type(error).__name__}: {error}"
                on_event({"event": "note", "text": text})

    try:
        for name in dict.fromkeys(settings.report_to):
            sinks[name] = _open(name, run, config)
        yield tell
    finally:
        for sink in sinks.values():
            with suppress(Exception):  # the run itself is done
                sink.close()


def numbers_of(event: Event, figures: Figures) -> dict[str, float]:
    """Name the numbers that an event brings.

    Args:
        event: of the trainer.
        figures: that have taken it in.

    Example:
        >>> numbers_of({"event": "held_out", "loss": 1.5}, Figures())
        {'held_out/loss': 1.5}
    """
    if event["event"] == "held_out":
        return {"held_out/loss": event["loss"]}
    if event["event"] != "step":
        return {}
    return {
        "train/loss": event["loss"],
        "train/learning_rate": event["lr"],
        "train/grad_norm": event["grad_norm"],
        "train/epoch": event["epoch"],
        "speed/tokens_per_second": figures.tokens_per_second,
        "speed/learned_tokens_per_second": figures.loss_tokens_per_second,
        "memory/peak_gb": figures.memory_bytes / 1e9,
    }


def _open(name: str, run: Path, config: Mapping[str, Any]) -> Sink:
    try:
        return SINKS[name](run, config)
    except ImportError as error:
        raise ConfigError(
            f"watch.report_to: {name} is not installed ({error}). Install it"
            f" ({how_to_install(name)}), or remove it there."
        ) from error
    except Exception as error:  # a login that is missing, a server that is not there
        raise ConfigError(
            f"watch.report_to: {name} cannot start: {type(error).__name__}: {error}"
        ) from error


def _lines(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _lines(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}: {value}"
