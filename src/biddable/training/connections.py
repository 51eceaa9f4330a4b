"""End the connections of a process group, which keeps them as long as its process lives.

Gloo has no call for it. A process that has lost another, and stays until rank 0 has saved, would
keep those that are left waiting at its own connections until torch's own wait ends.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Collection
from contextlib import suppress


def open_sockets() -> dict[int, int]:
    """Give the handles of this process's sockets by their inodes; none where they are not listed.

    Example:
        >>> with socket.socket() as one:
        ...     one.fileno() in open_sockets().values()
        True
    """
    found = {}
    with suppress(OSError):  # Windows
        for name in os.listdir("/dev/fd"):
            with suppress(OSError):  # the handle that lists them
                facts = os.fstat(int(name))
                if stat.S_ISSOCK(facts.st_mode):
                    found[facts.st_ino] = int(name)
    return found


def hang_up(*, but: Collection[int]) -> None:
    """Shut the connections of this process over TCP, so that the other ends notice.

    Args:
        but: inodes of the sockets that stay as they are.
    """
    for inode, handle in open_sockets().items():
        if inode not in but:
            with suppress(OSError), socket.socket(fileno=os.dup(handle)) as connection:
                if connection.family in (socket.AF_INET, socket.AF_INET6):
                    connection.getpeername()  # an error if it only listens: gloo would abort
                    connection.shutdown(socket.SHUT_RDWR)
