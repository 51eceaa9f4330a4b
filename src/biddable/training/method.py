"""Settle which parameters of a base train, as the config asks; the trainer does not know how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

from biddable.config_training import MethodConfig
from biddable.data.templates import get_template
from biddable.models.control_rows import train_control_rows
from biddable.models.freezing import decoder_layers, freeze_layers, freeze_named, has_tied_head
from biddable.models.loading import LoadedModel
from biddable.models.lora import LoRAKind, apply_lora, lora_layers, quantize_frozen
from biddable.models.token_rows import add_tokens


def new_tokens(method: MethodConfig) -> list[str]:
    """List the tokens that a run adds to its base's vocabulary."""
    return list(method.new_tokens or [])


def device_of_base(method: MethodConfig, device: torch.device | str) -> torch.device | str:
    """Say where a base is loaded: on the CPU where its layers go on one by one, made small."""
    return "cpu" if makes_base_small(method) else device


def makes_base_small(method: MethodConfig) -> bool:
    """Say whether frozen layers are kept in few bits."""
    return method.quantize_base is not None


def settle_method(
    loaded: LoadedModel,
    method: MethodConfig,
    *,
    template: str | None,
    options: Mapping[str, Any],
    device: torch.device | str | None = None,
) -> str:
    """Settle what trains, in place: as the method says, and the rows that the template needs.

    Args:
        loaded: the base; tokens that are new to it are added.
        method: its name and settings.
        template: its name, as in the config.
        options: what ``get_template`` takes beside it.
        device: as ``apply_method`` takes it.

    Returns:
        What trains, in words.

    Raises:
        ConfigError: a setting does not fit the model.
        TemplateError: the template is unknown, or the tokenizer lacks what it needs.
    """
    new_ids: list[int] = []
    said: list[str] = []
    if tokens := new_tokens(method):
        new_ids = add_tokens(loaded.model, loaded.tokenizer, tokens=tokens)
        said = [f"{', '.join(tokens)} are new to the vocabulary"]
    said.insert(0, apply_method(loaded.model, method, device=device))
    if method.name != "full":
        made = get_template(template, loaded.tokenizer, **options)
        rows = train_control_rows(loaded, made, asked=method.train_tokens, new_ids=new_ids)
        said += [rows] if rows else []
    return "; ".join(said)


def apply_method(
    model: PreTrainedModel, method: MethodConfig, *, device: torch.device | str | None = None
) -> str:
    """Settle which parameters of a model train, in place, and say it in words.

    Args:
        model: a transformers causal LM.
        method: its name and settings.
        device: where a model goes whose frozen layers are made small, layer by layer; None leaves
            it where it is.

    Raises:
        ConfigError: a setting does not fit the model.
    """
    if method.name == "lora":
        return _apply_lora(model, method, device)
    if method.name == "freeze":
        return _freeze(model, method)
    return "all parameters train"


def _apply_lora(
    model: PreTrainedModel, method: MethodConfig, device: torch.device | str | None
) -> str:
    ratio = method.lora_plus_ratio
    kind = LoRAKind(
        rslora=method.rslora, dora=method.dora, init=method.init, rate_ratio=ratio or 1.0
    )
    names = apply_lora(
        model,
        rank=method.rank,
        alpha=method.alpha,
        dropout=method.dropout,
        target_modules=method.target_modules,
        kind=kind,
    )
    scale = lora_layers(model)[names[0]].scale
    what = "DoRA" if kind.dora else "rsLoRA" if kind.rslora else "LoRA"
    how = ", from the base's own largest directions (PiSSA)" if kind.init == "pissa" else ""
    how += f", B at {ratio:g} times the learning rate (LoRA+)" if ratio else ""
    if method.quantize_base is not None:
        num_small = quantize_frozen(model, method.quantize_base, device=device)
        how += f", {num_small} frozen layers in {method.quantize_base}"
    return f"{what} of rank {method.rank} and scale {scale:g} on {len(names)} linear layers{how}"


def _freeze(model: PreTrainedModel, method: MethodConfig) -> str:
    frozen, num_frozen = [], method.num_frozen_layers
    num_layers = len(decoder_layers(model))
    if num_frozen is None and not method.freeze:
        num_frozen = num_layers // 2
    if num_frozen is not None:
        num_trained = freeze_layers(model, num_frozen)
        tied = ", and the head, which shares their weight," if has_tied_head(model) else ""
        frozen.append(f"the embeddings{tied} and {num_frozen} of {num_layers} layers are frozen")
    if method.freeze:
        num_trained = freeze_named(model, method.freeze)
        frozen.append(f"what is called {', '.join(method.freeze)} is frozen")
    return f"{'; '.join(frozen)}; {num_trained:,} parameters train"
