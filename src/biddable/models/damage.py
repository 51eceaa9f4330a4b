"""Tell whether files of weights are whole, by their own first bytes and their size."""

from __future__ import annotations

import json
from pathlib import Path

_LENGTH_BYTES = 8  # of a safetensors header's length


def cut_off_safetensors(place: str | Path) -> str:
    """Find a file of weights that ends too early.

    Args:
        place: a folder or one .safetensors file.

    Returns:
        A sentence about the first such file; empty if there is none, or its header is no header.
    """
    path = Path(place)
    for file in sorted(path.glob("*.safetensors")) if path.is_dir() else [path]:
        missing = _num_missing(file)
        if missing is not None and missing > 0:
            return f"{file.name} is cut off: {missing:,} bytes are missing. Copy it again."
        if missing is None:
            return f"{file.name} is cut off or damaged in its first bytes. Copy it again."
    return ""


def _num_missing(file: Path) -> int | None:
    """Count the bytes that a header promises and the file lacks; None if it cannot be read."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
            size = file.stat().st_size
            if _LENGTH_BYTES + length > size:
                return None
            header = json.loads(stream.read(length))
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
        return _LENGTH_BYTES + length + max(ends, default=0) - size
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None
