"""Tell how far a long evaluation is: on a terminal in one line, elsewhere in plain lines."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from biddable.cli_options import console, say
from biddable.counting import counted

EVERY_S = 10.0  # a stage that takes longer is told again, so that a log does not look dead


@contextmanager
def told_stages(first: str, *, every_s: float = EVERY_S) -> Iterator[Callable[[str], None]]:
    """Give what is told the name of each stage as it begins.

    Args:
        first: the stage that begins now.
        every_s: seconds after which a stage that goes on is told again, where nothing can be drawn.
    """
    screen = console(stderr=True)
    if screen.is_terminal and screen.file.isatty():
        with screen.status(first) as status:
            yield status.update
        return
    lines = _Lines(first, every_s)
    thread = threading.Thread(target=lines.repeat, daemon=True)
    thread.start()
    try:
        yield lines
    finally:
        lines.is_over.set()
        thread.join()


class _Lines:
    """Say each stage on stderr, and again while it goes on."""

    def __init__(self, first: str, every_s: float) -> None:
        self.is_over = threading.Event()
        self._every_s = every_s
        self._stage, self._began = first, time.monotonic()  # said only if it takes long

    def __call__(self, stage: str) -> None:
        self._stage, self._began = stage, time.monotonic()
        say(stage)

    def repeat(self) -> None:
        while not self.is_over.wait(self._every_s):
            seconds = time.monotonic() - self._began
            if seconds >= self._every_s:
                say(f"{self._stage}: {seconds:.0f} s so far")


def evaluation_events(tell: Callable[[str], None]) -> Callable[[Mapping[str, Any]], None]:
    """Make what an evaluation tells its events to: notes are said for good, stages as they come.

    Args:
        tell: as `told_stages` gives it.
    """

    def on_event(event: Mapping[str, Any]) -> None:
        if "note" in event:
            # not by say: rich puts what is written here above the line of a terminal's status
            sys.stderr.write(f"biddable: {event['note']}\n")
        else:
            tell(evaluation_stage(event))

    return on_event


def evaluation_stage(event: Mapping[str, Any]) -> str:
    """Say what an evaluation does now.

    Example:
        >>> event = {"side": "base", "stage": "generate", "prompt_form": "bare", "num_samples": 12}
        >>> evaluation_stage(event)
        'base (bare): generate, 12 items'
        >>> evaluation_stage({"side": "instruct", "stage": "cost of tuning"})
        'instruct: cost of tuning'
    """
    who = " ".join(
        text.format(event[key])
        for key, text in (("side", "{}"), ("prompt_form", "({})"))
        if event.get(key)
    )
    num = event.get("num_samples")
    items = "" if num is None else f", {counted(num, 'item')}"
    return f"{who}: {event['stage']}{items}" if who else f"{event['stage']}{items}"
