"""Let one process at a time make a run in an output folder.

The lock is the operating system's, on ``<output>.lock``, and ends with its process however that
ends: what a killed run leaves of it holds nobody up. On a disk that knows no locks there is none.
"""

from __future__ import annotations

import errno
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from biddable.errors import CheckpointError

_HELD = (errno.EACCES, errno.EAGAIN)  # what a lock that another process has is refused with


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Keep other processes from an output folder for a while.

    Threads and children of this process are not kept from it; of several that torchrun started,
    rank 0 alone takes the lock.

    Args:
        output: the run folder to make; its parent is made.

    Raises:
        CheckpointError: a process that lives has it; which one, and where, is said.
    """
    path = output.with_name(output.name + ".lock")
    handle = _take(path, output)
    try:
        yield
    finally:
        if handle is not None:
            with suppress(OSError):
                path.unlink()  # held still: a file that others lock is never taken away
            os.close(handle)


def _take(path: Path, output: Path) -> int | None:
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError:  # whoever writes there will say why it cannot be
            return None
        try:
            # of the process, unlike flock's: workers that outlive it do not keep it
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            told = os.pread(handle, 1000, 0)
            os.close(handle)
            if error.errno in _HELD:
                raise _refusal(output, told) from error
            return None  # no locks on this disk
        if _is_same(handle, path):
            _sign(handle)
            return handle
        os.close(handle)  # its holder has removed it meanwhile


def _is_same(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False


def _sign(handle: int) -> None:
    """Write who has it, for others to read; a full disk does not matter."""
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    told = {"pid": os.getpid(), "host": platform.node(), "since": since}
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(told).encode(), 0)


def _refusal(output: Path, told: bytes) -> CheckpointError:
    try:
        found = json.loads(told)
        who = f"process {found['pid']} on {found['host']} has been making it since {found['since']}"
    except (ValueError, KeyError, TypeError):  # it has not signed yet
        who = "another process is making it"
    return CheckpointError(
        f"{output}: {who}; expected one at a time. Wait for it, end it and go on with --resume, or"
        " choose another output."
    )
