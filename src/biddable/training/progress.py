"""Show a run to people: one line that lives on a terminal, or plain lines from time to time.

A terminal is one that can be drawn on. A file, a pipe or a build's log is given plain lines, few of
them, and no control characters, even where colours are forced.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from biddable.counting import counted
from biddable.training.metrics import Figures, clock, short_count

_HELD_OUT = "held-out"
_GAP = 2  # columns between two figures
_SHORTEST_BAR, _LONGEST_BAR = 4, 24
_CURVE, _LEVELS = 12, "▁▂▃▄▅▆▇█"
_PLAIN_SHARE, _PLAIN_SECONDS = 0.05, 10.0  # a plain line is written after this much, or this long
_MOST_PLAIN_LINES = 100  # of those for time


@dataclass(frozen=True, slots=True)
class Part:
    """One figure of the line.

    Attributes:
        text: as shown.
        rank: those with the highest leave first when the line is too short.
        style: rich's.
    """

    text: str
    rank: int
    style: str = ""


class ProgressBar:
    """Show steps, losses, learning rate, speed, memory and time left, on stderr.

    It appears with the first step. Use as a context manager, so that the terminal is whole again
    after an error or Ctrl-C.
    """

    def __init__(
        self, console: Console | None = None, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Take a console, or make one on stderr; and the clock that the time left runs by."""
        self._console = console or Console(stderr=True)
        self._now = now
        self._figures = Figures()
        self._told_at = now()
        self._is_over = False
        self._plain_at: tuple[float, float] | None = None  # share of the steps, seconds
        self._is_drawn = self._console.is_interactive and self._console.file.isatty()
        self._live = Live(
            console=self._console, get_renderable=lambda: self, refresh_per_second=8, screen=False
        )

    def __enter__(self) -> ProgressBar:
        """Wait for the first event."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the line as it stands and give the terminal back."""
        self._live.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        """Take in one event of the trainer; unknown ones are passed over."""
        self._figures(event)
        self._told_at = self._now()
        kind = event["event"]
        if kind == "start":
            self._say(
                f"learning rate {event['learning_rate']:g} ({event['learning_rate_reason']}); "
                f"{event['num_trained_parameters']:,} parameters are trained, the model has "
                f"{event['num_parameters']:,}; {counted(event['num_examples'], 'example')}"
            )
            if self._is_drawn:
                self._live.start()
        elif kind == "step":
            self._step_is_over()
        elif kind == "held_out":
            passes = f" (epoch {event['epoch']})" if event["step"] else ""
            told = f"step {event['step']:,}{passes}: held-out loss {event['loss']:.4f}"
            self._say(told, style="cyan")
        elif kind == "sample":
            self._say(f"  {event['prompt']}", style="dim")
            end = "" if event["stopped"] else f" … (cut after {event['num_tokens']} tokens)"
            answer = event["answer"].strip().replace("\n", "\n    ")
            self._say(f"  → {answer}{end}")
        elif told := _in_words(event):
            self._say(told)
        elif kind == "note":
            self._say(f"note: {event['text']}", style="yellow")
        elif kind == "end":
            self._is_over = True
            self._live.refresh()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the line as wide as the terminal is now."""
        parts = self._parts()
        if len(self._figures.losses) > 1 and not options.ascii_only:
            parts.insert(2, Part(sparkline(self._figures.losses, _CURVE), 8, "magenta"))
        chosen = fitting(parts, options.max_width)
        used = sum(len(part.text) + _GAP for part in chosen)
        room = min(options.max_width - used, _LONGEST_BAR)
        if room >= _SHORTEST_BAR and self._figures.num_steps:
            done = round(room * self._figures.step / self._figures.num_steps)
            on, off = ("#", "-") if options.ascii_only else ("━", "─")
            chosen[1:1] = [Part(on * done + off * (room - done), 0, "blue")]
        line = Text(" " * _GAP).join(Text(part.text, style=part.style) for part in chosen)
        line.truncate(options.max_width)
        yield line

    def _parts(self) -> list[Part]:
        """List the figures that are known, as they are shown from left to right."""
        figures = self._figures
        parts = [Part(f"{figures.step:,}/{figures.num_steps:,}", 0, "bold")]
        if figures.losses:
            parts.append(Part(f"loss {figures.losses[-1]:.3f}", 1, "bold magenta"))
        if figures.held_out is not None:
            parts.append(Part(f"{_HELD_OUT} {figures.held_out:.3f}", 3, "cyan"))
        if figures.step:
            parts.append(Part(f"lr {short_rate(figures.lr)}", 5, "dim"))
        if figures.tokens_per_second:
            parts.append(Part(f"{short_count(figures.tokens_per_second)} tok/s", 4, "green"))
            learned = short_count(figures.loss_tokens_per_second)
            parts.append(Part(f"{learned} learned/s", 7, "green dim"))
        if figures.memory_bytes:
            parts.append(Part(f"{figures.memory_bytes / 1e9:.1f} GB", 6, "dim"))
        return [*parts, Part(self._time(), 2, "bold")]

    def _time(self) -> str:
        left = self._figures.seconds_left
        since = self._now() - self._told_at
        parts = ", earlier parts too" if self._figures.is_resumed else ""
        if self._is_over:
            return f"in {clock(self._figures.seconds)}{parts}"
        if left is None:
            return f"{clock(self._figures.seconds + since)} so far{parts}"
        return f"{clock(max(left - since, 0))} left"

    def _step_is_over(self) -> None:
        if self._is_drawn:
            return
        figures = self._figures
        share = figures.step / max(figures.num_steps, 1)
        left = figures.seconds_left or 0.0
        if self._plain_at is not None and share < 1:
            share_before, seconds_before = self._plain_at
            patience = max(_PLAIN_SECONDS, (figures.seconds + left) / _MOST_PLAIN_LINES)
            if share - share_before < _PLAIN_SHARE and figures.seconds - seconds_before < patience:
                return
        self._plain_at = (share, figures.seconds)
        # the held-out loss has had its own line when it was new
        parts = (part.text for part in self._parts() if not part.text.startswith(_HELD_OUT))
        self._say("step " + "  ".join(parts))

    def _say(self, text: str, *, style: str = "") -> None:
        self._console.print(Text(text, style=style), highlight=False, soft_wrap=not self._is_drawn)


def _in_words(event: dict[str, Any]) -> str:
    """Take from an event what is said as it stands."""
    if event["event"] == "plan" and not event["is_tree"]:
        return str(event["layout"])
    return str(event["text"]) if event["event"] == "activations" else ""


def fitting(parts: Sequence[Part], width: int) -> list[Part]:
    """Keep the figures that a line has room for, and never a part of one.

    Args:
        parts: from left to right.
        width: columns.

    Returns:
        Those of the lowest ranks that fit together, at least one, in their order.

    Example:
        >>> parts = [Part("1/9", 0), Part("lr 8.0e-4", 2), Part("loss 1.234", 1)]
        >>> [[part.text for part in fitting(parts, width)] for width in (26, 25, 2)]
        [['1/9', 'lr 8.0e-4', 'loss 1.234'], ['1/9', 'loss 1.234'], ['1/9']]
    """
    ranked = sorted(parts, key=lambda part: part.rank)
    used = -_GAP
    kept = 0
    for part in ranked:
        used += _GAP + len(part.text)
        if used > width:
            break
        kept += 1
    chosen = ranked[: max(kept, 1)]
    return [part for part in parts if part in chosen]


def sparkline(values: Sequence[float], width: int) -> str:
    """Draw values as blocks between their least and their greatest.

    Args:
        values: at least one.
        width: columns; values between those that are drawn are passed over.

    Example:
        >>> sparkline([9, 5, 3, 2, 1, 1], 12), sparkline(range(100), 4), sparkline([2, 2], 4)
        ('█▄▂▁▁▁', '▁▃▆█', '▁▁')
    """
    count = min(width, len(values))
    chosen = [values[round(n * (len(values) - 1) / max(count - 1, 1))] for n in range(count)]
    least = min(chosen)
    span = max(max(chosen) - least, 1e-6)  # less is rounding
    return "".join(_LEVELS[int(7.99 * (value - least) / span)] for value in chosen)


def short_rate(rate: float) -> str:
    """Write a learning rate with two digits.

    Example:
        >>> short_rate(0.00076), short_rate(0)
        ('7.6e-4', '0.0e0')
    """
    digits, _, power = f"{rate:.1e}".partition("e")
    return f"{digits}e{int(power)}"
