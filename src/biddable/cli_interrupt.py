"""See to it that a Ctrl-C is not lost."""

from __future__ import annotations

import _thread
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_PAUSE_S = 0.01  # long enough for the code that swallowed it to end


@contextmanager
def never_lost() -> Iterator[None]:
    """Raise KeyboardInterrupt once more where Python could only print and drop it.

    It is raised wherever the main thread is. Within a ``__del__``, which is where a signal that
    came during a garbage collection is seen first, nothing can be raised: the verb would go on.
    """
    before = sys.unraisablehook
    waiting: list[threading.Timer] = []

    def hook(problem: UnraisableHookArgs) -> None:
        if issubclass(problem.exc_type, KeyboardInterrupt):
            waiting.append(threading.Timer(_PAUSE_S, _thread.interrupt_main))
            waiting[-1].daemon = True
            waiting[-1].start()
        else:
            before(problem)

    sys.unraisablehook = hook
    try:
        yield
        if any(timer.is_alive() for timer in waiting):  # dropped at the very end
            raise KeyboardInterrupt
    finally:
        for timer in waiting:
            timer.cancel()
        sys.unraisablehook = before
