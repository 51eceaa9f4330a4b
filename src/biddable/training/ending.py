"""End the processes of a run together: one says why, and each has an exit code that is true.

torchrun ends the processes of its machine once one of them has failed, and knows nothing of other
machines. So all but rank 0 wait before they end, until rank 0 has saved the run and left its last
word in the store; where it is gone without one, one of them says so.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from biddable.errors import CheckpointError, RunStopped, TrainingError
from biddable.training.checkpoints import Checkpoints
from biddable.training.distributed import FAILURE, World

_WORD, _HEARD = "biddable/last_word", "biddable/heard"  # in the store
_PLACE, _TELLER = "biddable/place", "biddable/teller"
_WHOLE, _CUT_OFF = "whole", "cut off"
_POLL_S = 0.1
_SAVING_S = 600.0  # a save may take as long; a machine may be lost, and the store be on another
_HEARING_S = 10.0  # a process that is lost as the run ends will not have heard of it


@contextmanager
def leading(world: World) -> Iterator[None]:
    """Make the run within as rank 0, and let the others know how it ended.

    Args:
        world: the processes.
    """
    store, word = world.store, _CUT_OFF
    if store is None:
        yield
        return
    store.set(_PLACE, f"{os.getpid()} {_machine()}")
    try:
        yield
        word = _WHOLE
    finally:
        with suppress(RuntimeError):
            store.set(_WORD, word)
            if word == _CUT_OFF:  # who waits for its rows need not do so any longer
                store.compare_set(FAILURE, "", "rank 0 has ended")
            until = time.monotonic() + _HEARING_S  # this process may hold the store itself
            while word == _WHOLE and time.monotonic() < until:
                if store.add(_HEARD, 0) == world.size - 1:
                    break
                time.sleep(_POLL_S)


@contextmanager
def assisting(world: World, checkpoints: Checkpoints) -> Iterator[None]:
    """Take part within in a run that rank 0 makes, and end when it has.

    Args:
        world: the processes; their group is closed at the end.
        checkpoints: of the run.

    Raises:
        RunStopped: what rank 0 was stopped with, and says.
        TrainingError: what ended the run on all processes, and rank 0 says; or rank 0 is gone,
            which one of those that are left says.
        CheckpointError: the same of a state that could not be saved.
    """
    try:
        yield
    except (RunStopped, TrainingError, CheckpointError) as error:
        world.close()  # who waits for this process in a collective need not do so any longer
        if word := _last_word(world, most_s=_SAVING_S):
            error.is_told = word == _CUT_OFF
            raise
        hint = checkpoints.hint()
        lost = TrainingError(
            f"rank 0 of {world.size} has ended or cannot be reached: see its own last line, or the"
            f" log of its machine for a kill, as when memory has run out.{hint}"
        )
        lost.is_resumable, lost.is_told = bool(hint), not _is_teller(world)
        raise lost from error
    world.close()


def wait_until_whole(world: World) -> None:
    """Wait until rank 0 has written the run folder, however long that takes.

    Args:
        world: the processes.

    Raises:
        TrainingError: it could not, or is gone.
    """
    if world.store is None:
        return
    if _last_word(world) != _WHOLE:
        raise TrainingError("rank 0 did not finish the run.")
    with suppress(RuntimeError):  # rank 0 has waited long enough
        world.store.add(_HEARD, 1)


def _last_word(world: World, *, most_s: float = float("inf")) -> str:
    """Wait for what rank 0 says at its end; empty if it is gone."""
    until = time.monotonic() + most_s
    with suppress(RuntimeError):  # the store is gone, with rank 0 or with its machine
        while time.monotonic() < until:
            is_gone = _is_main_gone(world)  # asked before: its word is there if it left one
            if world.store.check([_WORD]):
                return str(world.store.get(_WORD).decode())
            if is_gone:
                break
            time.sleep(_POLL_S)
    return ""


def _is_main_gone(world: World) -> bool:
    """Say whether rank 0 was a process of this machine, and is no more."""
    if os.name != "posix" or not world.store.check([_PLACE]):
        return False
    pid, _, machine = world.store.get(_PLACE).decode().partition(" ")
    if machine != _machine():
        return False
    try:
        os.kill(int(pid), 0)  # no signal, but an error if there is nobody
    except ProcessLookupError:
        return True
    return False


def _machine() -> str:
    """Name this machine, and which processes are seen: not those of another container."""
    seen = ""
    with suppress(OSError):  # not Linux
        seen = os.readlink("/proc/self/ns/pid")
    return f"{platform.node()} {seen}"


def _is_teller(world: World) -> bool:
    """Settle who of those that are left speaks: without the store, the first of each machine."""
    with suppress(RuntimeError):
        return bool(
            world.store.compare_set(_TELLER, "", str(world.rank)) == str(world.rank).encode()
        )
    return world.local_rank in (0, world.rank)  # where rank 0 was, any
