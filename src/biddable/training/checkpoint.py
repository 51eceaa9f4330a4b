"""Write the folder that a run leaves: all of it, or nothing that looks like it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from biddable.config import RunConfig, parse_config
from biddable.errors import ConfigError
from biddable.manifest import write_json
from biddable.models.adapter import save_adapter
from biddable.models.loading import EMBEDDED, no_progress_bars
from biddable.models.lora import lora_layers
from biddable.models.token_rows import merge_token_rows
from biddable.training.gathering import Gather, gather_adapters, write_weights
from biddable.whole_folder import require_free, written_whole


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


def save_run(
    folder: str | os.PathLike[str],
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    record: RunRecord,
    gather: Gather | None = None,
) -> Path:
    """Write a run folder in one go.

    A model with adapters leaves those alone, in PEFT's format, its base named in the manifest;
    any other is left as an ordinary transformers folder.

    Args:
        folder: missing or empty.
        model: trained.
        tokenizer: its own.
        record: config, manifest and log.
        gather: gives the weights of a model that is divided, one by one; they are written so.

    Returns:
        The folder.

    Raises:
        CheckpointError: it holds something, or the disk refuses; nothing is left behind then.
        TrainingError: a process that holds a part of the model is lost; likewise.
    """
    path = require_free(folder)
    with written_whole(path) as partial:
        if lora_layers(model):
            if gather is not None:
                gather_adapters(model, gather)
            base = str(record.manifest["base_model"])
            save_adapter(model, partial, base_model=_absolute_if_local(base))
        elif gather is not None:
            write_weights(model, partial, gather)
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


def _absolute_if_local(base: str) -> str:
    is_local = base not in EMBEDDED and Path(base).exists()
    return str(Path(base).resolve()) if is_local else base
