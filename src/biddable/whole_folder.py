"""Make a folder of results: all of it, or nothing that looks like it.

Everything goes into ``<folder>.partial`` and is renamed last. Whatever goes wrong before, the
partial folder is removed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from biddable.errors import CheckpointError


def require_unused(folder: str | os.PathLike[str]) -> Path:
    """Refuse an output folder that holds something, and make nothing.

    Args:
        folder: may be missing or empty.

    Returns:
        It, as a path.

    Raises:
        CheckpointError: it is a file or is not empty.
    """
    path = Path(folder)
    if path.is_dir() and any(path.iterdir()):
        what = "a run" if (path / "manifest.json").is_file() else "files"
        raise CheckpointError(
            f"{path}: already holds {what}; expected a new or empty folder. "
            "Choose another output, or delete it."
        )
    if path.exists() and not path.is_dir():
        raise CheckpointError(f"{path}: is a file; expected a new or empty folder.")
    return path


def require_free(folder: str | os.PathLike[str]) -> Path:
    """Refuse an output folder that cannot be used, before any time is spent; make its parent.

    Args:
        folder: may be missing or empty.

    Returns:
        It, as a path.

    Raises:
        CheckpointError: it is a file or is not empty, or its parent cannot be made or written.
    """
    path = require_unused(folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{path.parent}: cannot be made: {error.strerror}.") from error
    if not os.access(path.parent, os.W_OK):
        raise CheckpointError(f"{path.parent}: cannot be written to; choose another output.")
    return path


@contextmanager
def written_whole(
    path: Path,
    *,
    advice: str = "Nothing was left there; free some space or choose another output",
) -> Iterator[Path]:
    """Give a partial folder to write into; rename it at the end, or remove it on any error.

    Args:
        path: the folder to make; missing or empty.
        advice: what to do where the disk refuses.

    Raises:
        CheckpointError: the disk refuses.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)  # left by a run that was killed
        partial.mkdir(parents=True)
        yield partial
        for file in partial.iterdir():
            file.chmod(0o644)  # safetensors hides its files from everybody else
            _sync(file)
        _sync(partial)
        os.replace(partial, path)  # an empty folder at `path` is replaced
        for folder in (path.parent, path.parent.parent):  # the former may be new as well
            _sync(folder)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be written: {error}. {advice}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sync(path: Path) -> None:
    """Make sure that a file's bytes, or a folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
