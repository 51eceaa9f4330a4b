"""Start the process again with a heap that keeps its holes small, where the C library is glibc.

torch asks for memory that starts at a multiple of 64 bytes; glibc gives it so by cutting off what
lies before, and keeps such cuttings in caches of small pieces, where the next small request takes
them. A place that was freed between two of these is then a few bytes too short for a tensor of the
size that was there, so that each layer's passing tensors leave holes. Without the caches the
cuttings grow together with their neighbours again. They are set only as a process starts.
"""

from __future__ import annotations

import os
import sys

VARIABLE = "GLIBC_TUNABLES"
WITHOUT_CACHES = "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0"


def keep_holes_small() -> None:
    """Replace this process by one of the same command; do nothing where the user set the heap.

    It keeps its number, its files and its place among other processes.
    """
    if VARIABLE in os.environ or not _is_glibc() or not sys.executable:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    given = {**os.environ, VARIABLE: WITHOUT_CACHES}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], given)


def _is_glibc() -> bool:
    try:
        return bool(os.confstr("CS_GNU_LIBC_VERSION"))
    except (AttributeError, OSError, ValueError):  # not Unix, or a C library of another kind
        return False
