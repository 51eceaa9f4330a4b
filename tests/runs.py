"""Make run folders in a moment: a tiny base, and adapters that were shaken instead of trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from biddable.data.segment_ids import stop_ids
from biddable.data.templates import get_template
from biddable.models.adapter import save_adapter
from biddable.models.lora import LoRAKind, apply_lora
from biddable.models.token_rows import train_token_rows


def write_base(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_adapter_run(
    folder: Path,
    base: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    template: str = "inst",
    kind: LoRAKind | None = None,
    rows: tuple[int, ...] = (),
    method: dict[str, Any] | None = None,
) -> PreTrainedModel:
    """Write a run as training leaves it; the live model, its adapter not merged, is given back."""
    apply_lora(model, rank=4, alpha=6.0, kind=kind)
    if rows:
        train_token_rows(model, rows)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data.add_(0.1 * torch.randn_like(parameter))
    save_adapter(model, folder, base_model=str(base))
    form = get_template(template, tokenizer)
    tokenizer.chat_template = form.saved_source
    tokenizer.save_pretrained(folder)
    ends = stop_ids(form, tokenizer)
    manifest = {
        "schema": 1,
        "base_model": str(base),
        "method": "lora",
        "seed": 0,
        "config": {"method": {"name": "lora", **(method or {})}, "data": {"train": "/home/me/x"}},
        "template": {"name": template, "file": "/home/me/form.jinja"},
        "data": {"train": {"file": "/home/me/x", "num_rows": 12, "num_kept": 11}},
        "results": {"steps": 3, "tokens": 1234, "seconds": 1.5, "held_out_loss": None},
        "stops": ends,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return model
