"""Turn the signals that end a process into a wish, granted when the run's state is whole."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from biddable.errors import RunStopped

# Ctrl-C, the end that schedulers announce, and a terminal that is closed
_SIGNALS = {"SIGINT": "Ctrl-C", "SIGTERM": "SIGTERM", "SIGHUP": "SIGHUP"}
_NOTICE = "biddable: saving, then stopping; once more ends at once, and loses what is not saved\n"
_RUN_ID = "TORCHELASTIC_RUN_ID"  # torchrun sets it for its processes
_SHOW_CURSOR = "\x1b[?25h"  # a progress bar hides it, and would not be asked again


class StopSignals:
    """Listen for Ctrl-C, SIGTERM and SIGHUP; use as a context manager.

    The first is noted, the second ends the process at once, wherever it is. Outside of the main
    thread signals cannot be caught, and none is; one that the process ignores stays ignored.

    Attributes:
        asked: the number of the signal that has come, if one has.
    """

    def __init__(self) -> None:
        """Listen to nothing yet."""
        self.asked: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        """Begin to listen."""
        if threading.current_thread() is threading.main_thread():
            numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
            for number in numbers:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the signals back to whoever had them.

        An error that ends one of torchrun's processes ends the others, too, and torchrun sends the
        rest SIGTERM: the first one passes, or they could not say what happened.
        """
        for number, handler in self._before.items():
            is_due = error is not None and number == signal.SIGTERM and _RUN_ID in os.environ
            signal.signal(number, _passing_once(handler) if is_due else handler)
        self._before.clear()

    def stopped(self, *, step: int, num_steps: int) -> RunStopped:
        """Make the error that ends a run which was asked to stop and is saved.

        Args:
            step: steps done.
            num_steps: of the whole run.
        """
        assert self.asked is not None
        name = _SIGNALS[signal.Signals(self.asked).name]
        told = f"stopped by {name}, and saved at step {step:,} of {num_steps:,}."
        return RunStopped(told, exit_code=128 + self.asked)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = number
        for caught in self._before:
            # the system's own end, which does not wait for a long call to come back to Python
            signal.signal(caught, signal.SIG_DFL)
        if os.environ.get("RANK", "0") != "0":  # torchrun gives each of its processes the signal
            return
        notice = ("\r" + _SHOW_CURSOR if os.isatty(2) else "") + _NOTICE
        with contextlib.suppress(OSError):  # stderr may be closed
            os.write(
                2, notice.encode()
            )  # print is not safe here: it might be in the middle of a line


def _passing_once(handler: Any) -> Callable[[int, FrameType | None], None]:
    def put_back(number: int, frame: FrameType | None) -> None:
        signal.signal(number, handler)

    return put_back
