"""Write the folder that a run leaves: all of it, or nothing that looks like it.

Everything goes into ``<folder>.partial`` and is renamed last. Whatever goes wrong before, the
partial folder is removed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from biddable.config import RunConfig, parse_config
from biddable.errors import CheckpointError, ConfigError
from biddable.manifest import write_json
from biddable.models.adapter import save_adapter
from biddable.models.loading import EMBEDDED, no_progress_bars
from biddable.models.lora import lora_layers
from biddable.models.token_rows import merge_token_rows


@dataclass(frozen=True)
class RunRecord:
    """What is kept of a run beside its weights.

    Attributes:
        config: the resolved config, plain values.
        manifest: as `build_manifest` makes it.
        log: the trainer's records.
        files: what else is kept, by its name, as a picture of the losses.
    """

    config: Mapping[str, Any]
    manifest: Mapping[str, Any]
    log: Sequence[Mapping[str, Any]]
    files: Mapping[str, bytes] = field(default_factory=dict)


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


def save_run(
    folder: str | os.PathLike[str],
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    record: RunRecord,
) -> Path:
    """Write a run folder in one go.

    A model with adapters leaves those alone, in PEFT's format, its base named in the manifest;
    any other is left as an ordinary transformers folder.

    Args:
        folder: missing or empty.
        model: trained.
        tokenizer: its own.
        record: config, manifest and log.

    Returns:
        The folder.

    Raises:
        CheckpointError: it holds something, or the disk refuses; nothing is left behind then.
    """
    path = require_free(folder)
    with written_whole(path) as partial:
        if lora_layers(model):
            base = str(record.manifest["base_model"])
            save_adapter(model, partial, base_model=_absolute_if_local(base))
        else:
            merge_token_rows(model)
            with no_progress_bars():
                model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        text = yaml.safe_dump(dict(record.config), sort_keys=False, allow_unicode=True)
        (partial / "config.yaml").write_text(text, encoding="utf-8")
        lines = [json.dumps(r, ensure_ascii=False, allow_nan=False) + "\n" for r in record.log]
        (partial / "log.jsonl").write_text("".join(lines), encoding="utf-8")
        for name, content in record.files.items():
            (partial / name).write_bytes(content)
        write_json(partial / "manifest.json", dict(record.manifest))
    return path


def read_config_of(folder: str | os.PathLike[str]) -> RunConfig | None:
    """Read the config that a whole run folder was made by; None if there is no such folder."""
    try:
        manifest = json.loads((Path(folder) / "manifest.json").read_text(encoding="utf-8"))
        return parse_config(manifest["config"])
    except (OSError, ValueError, KeyError, TypeError, ConfigError):
        return None


def partial_of(path: Path) -> Path:
    """Name the folder that is written before it is renamed to `path`."""
    return path.with_name(path.name + ".partial")


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
    partial = partial_of(path)
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


def _absolute_if_local(base: str) -> str:
    is_local = base not in EMBEDDED and Path(base).exists()
    return str(Path(base).resolve()) if is_local else base
