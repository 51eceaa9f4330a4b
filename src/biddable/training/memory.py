"""Ask this machine how much memory a run takes, and how much is left.

A container's own limit counts: a process that goes over it is killed, whatever the machine has.
"""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import torch

_CGROUPS = Path("/sys/fs/cgroup")
# the limit and the use of a group, as the second and the first version of cgroups call them
_FILES = (
    ("memory.max", "memory.current"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes"),
)


def peak_memory(device: torch.device) -> int:
    """Tell the most memory that has been in use, in bytes.

    Args:
        device: of the model; on a GPU its own memory is told, else that of this process.
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def free_memory(device: torch.device) -> int:
    """Tell how many bytes more a run on this device could take."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # what torch holds and does not use is as good as free
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + unused)
    free = int(psutil.virtual_memory().available)
    left = group_memory_left()
    return free if left is None else min(free, left)


def group_memory_left(root: Path = _CGROUPS, own: Path = Path("/proc/self/cgroup")) -> int | None:
    """Tell what the limits of the groups that this process is in leave to it.

    Args:
        root: where groups are mounted.
        own: the file that names the groups.

    Returns:
        Bytes, the least of all limits; None where none is set.
    """
    try:
        entries = [line.split(":", 2) for line in own.read_text(encoding="utf-8").splitlines()]
    except OSError:  # not Linux
        return None
    left = []
    for entry in entries:
        if len(entry) == 3 and entry[1] in ("", "memory"):
            top = root / entry[1]
            inner = top / entry[2].lstrip("/")
            folders = [inner, *inner.parents]
            left += [_left_in(folder) for folder in folders if folder.is_relative_to(top)]
    found = [size for size in left if size is not None]
    return min(found) if found else None


def _left_in(folder: Path) -> int | None:
    for limit, used in _FILES:
        try:
            most = (folder / limit).read_text(encoding="ascii").strip()
            now = (folder / used).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if most.isdigit():  # else "max": no limit
            return max(int(most) - max(int(now) - _reclaimable(folder), 0), 0)
    return None


def _reclaimable(folder: Path) -> int:
    """Tell how much of a group's use is a cache of files, given back as soon as it is needed."""
    try:
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    counts = dict(line.split() for line in lines if len(line.split()) == 2)
    return int(counts.get("total_inactive_file", counts.get("inactive_file", 0)))
