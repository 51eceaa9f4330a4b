"""Record what a run was made of, and write small JSON files so that none is ever half there.

The manifest holds the resolved config, hashes and counts of the data, the template's hash, package
versions, the commit, seed, device and results. Weights are written elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from os import PathLike
from pathlib import Path
from typing import Any

from biddable.errors import CheckpointError

SCHEMA = 1
_PACKAGES = ("biddable", "torch", "transformers", "tokenizers", "safetensors", "numpy")


def build_manifest(
    *,
    config: Mapping[str, Any],
    data: Mapping[str, Any],
    template: Mapping[str, Any],
    model: Mapping[str, Any],
    results: Mapping[str, Any],
) -> dict[str, Any]:
    """Put together what it takes to know, and to repeat, a run.

    Args:
        config: the resolved config; ``method`` (a name, or a section with one) and ``seed``.
        data: files, hashes and counts.
        template: ``name`` and hash.
        model: ``name`` of the base, and what else is known of it; ``device`` if not the default.
        results: seconds, tokens, steps, losses.

    Returns:
        Plain JSON values; ``base_model``, ``method`` and ``seed`` are repeated at the top, where
        readers look for them.
    """
    method = config.get("method")
    return {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "base_model": model.get("name"),
        "method": method.get("name") if isinstance(method, Mapping) else method,
        "seed": config.get("seed"),
        "config": dict(config),
        "data": dict(data),
        "template": dict(template),
        "model": dict(model),
        "results": dict(results),
        "device": describe_device(model.get("device")),
        "versions": installed_versions(),
        "git_commit": git_commit(),
    }


def write_json(path: str | PathLike[str], obj: Any) -> None:
    """Write one JSON file whole, or leave what was there.

    Args:
        path: the file; its folder exists.
        obj: plain values; no NaN, which is not JSON.

    Raises:
        CheckpointError: the disk refuses, as when it is full.
        ValueError: a number is not finite.
    """
    write_text(path, json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: str | PathLike[str], text: str) -> None:
    """Write one text file whole, or leave what was there.

    Args:
        path: the file; its folder exists.
        text: written as UTF-8.

    Raises:
        CheckpointError: the disk refuses, as when it is full.
    """
    target = Path(path)
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(
            dir=target.parent, prefix=f".{target.name}.", suffix=".partial"
        )
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # mkstemp's own mode hides the file from everybody else
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise CheckpointError(f"{target}: cannot be written: {error.strerror or error}.") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def hash_file(path: str | PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_text(text: str) -> str:
    """Return the SHA-256 of a text's UTF-8 bytes, in hex.

    Example:
        >>> hash_text("")[:8]
        'e3b0c442'
    """
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def installed_versions() -> dict[str, str]:
    """Tell the versions of Python and of the packages that decide a result."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def describe_device(device: object) -> dict[str, Any]:
    """Tell what was computed on: a torch device or its name, None for the CPU."""
    torch = sys.modules.get("torch")  # whoever trained has loaded it; nobody else needs to
    described: dict[str, Any] = {
        "type": str(device) if device is not None else "cpu",
        "machine": platform.machine(),
        "system": platform.system(),
        "num_cpus": os.cpu_count(),
    }
    if torch is not None:
        described["num_threads"] = torch.get_num_threads()
        if described["type"].startswith("cuda"):
            described["name"] = torch.cuda.get_device_name(described["type"])
    return described


def git_commit() -> str | None:
    """Find the commit of our own checkout; None where the package is installed otherwise."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # never the commit of the project that installed us
        return None
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
