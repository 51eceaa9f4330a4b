"""Adapter files in PEFT's own format, so that an adapter goes to and from any tool that knows it.

What a file may ask for and these layers would compute otherwise is refused, never guessed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from biddable.counting import counted
from biddable.errors import CheckpointError
from biddable.manifest import write_json
from biddable.models.damage import cut_off_safetensors
from biddable.models.lora import LoRAKind, LoRALinear, apply_lora, is_named, lora_layers
from biddable.models.rows import matrix
from biddable.models.token_rows import attach_rows, token_rows

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."  # PEFT names a module as seen from its own wrapper
_ENDINGS = (".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector")
_ROWS_ENDING = ".token_adapter.trainable_tokens_delta"
# what PEFT can save and these layers cannot compute, and the value that asks for none of it
_UNSUPPORTED: dict[str, Any] = {
    "bias": "none",
    "lora_bias": False,
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "layer_replication": None,
}
# starts that leave the base as it is; with the others the file is no addition to the base
_HARMLESS_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")


def save_adapter(model: nn.Module, folder: str | os.PathLike[str], *, base_model: str) -> None:
    """Write a model's adapters, and the rows that were trained beside them, as PEFT does.

    Args:
        model: a model with adapters.
        folder: made if it is not there.
        base_model: name or path of the model under the adapters.

    Raises:
        CheckpointError: the model has no adapters, or the disk refuses.
    """
    layers = lora_layers(model)
    if not layers:
        raise CheckpointError(f"{folder}: the model has no adapters to save; apply_lora first.")
    weights: dict[str, Tensor] = {}
    for name, layer in layers.items():
        low, high = layer.as_plain()
        weights[f"{_PREFIX}{name}.lora_A.weight"] = low.T.contiguous()
        weights[f"{_PREFIX}{name}.lora_B.weight"] = high.T.contiguous()
        if layer.magnitude is not None:
            weights[f"{_PREFIX}{name}.lora_magnitude_vector"] = layer.magnitude.detach()
    trained_rows = token_rows(model)
    for name, (_, rows) in trained_rows.items():
        weights[f"{_PREFIX}{name}{_ROWS_ENDING}"] = rows.detach()
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        **_describe(next(iter(layers.values()))),
        "target_modules": _short_names(model, list(layers)),
        "trainable_token_indices": {name: ids for name, (ids, _) in trained_rows.items()} or None,
        "inference_mode": True,
        "init_lora_weights": True,
        **_UNSUPPORTED,
    }
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        save_file(weights, path / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be written: {error}.") from error
    write_json(path / ADAPTER_CONFIG, config)


def load_adapter(model: PreTrainedModel, folder: str | os.PathLike[str]) -> list[str]:
    """Wrap a model's layers with the adapters of a folder in PEFT's format.

    Rows for tokens that the base lacks are added to it.

    Args:
        model: the base that the adapters were trained on, without adapters.
        folder: holds adapter_config.json and adapter_model.safetensors.

    Returns:
        The full names of the layers that were wrapped; all else is frozen.

    Raises:
        CheckpointError: the folder is not whole, asks for a kind of adapter that is not LoRA as
            computed here, or does not fit the model.
    """
    config = read_adapter_config(folder)
    path = Path(folder) / ADAPTER_WEIGHTS
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        reason = cut_off_safetensors(path) if path.is_file() else ""
        raise CheckpointError(f"{path}: cannot be read: {reason or f'{error}.'}") from error
    rows = {key: weights.pop(key) for key in list(weights) if key.endswith(_ROWS_ENDING)}
    names = sorted({_module_name(key, path) for key in weights})
    linears = {n for n, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)}
    strangers = [name for name in names if name not in linears]
    if strangers:
        raise CheckpointError(
            f"{path}: the base model has no linear layer {strangers[0]} ({len(strangers)} such); "
            "load the base that the adapter was trained on."
        )
    kind = LoRAKind(rslora=bool(config.get("use_rslora")), dora=bool(config.get("use_dora")))
    apply_lora(
        model,
        rank=config["r"],
        alpha=float(config["lora_alpha"]),
        dropout=float(config.get("lora_dropout") or 0.0),
        target_modules=names,
        kind=kind,
    )
    for name, layer in lora_layers(model).items():
        for ending, parameter in _saved_parameters(layer).items():
            saved = weights.get(f"{_PREFIX}{name}{ending}")
            if saved is None or saved.shape[::-1] != parameter.shape:
                raise CheckpointError(
                    f"{path}: {name}{ending.removesuffix('.weight')} should be "
                    f"{tuple(parameter.shape[::-1])}, found "
                    f"{None if saved is None else tuple(saved.shape)}."
                )
            parameter.data.copy_(saved.T if saved.dim() == 2 else saved)
    _load_rows(model, rows, asked=config.get("trainable_token_indices") or {}, path=path)
    return names


def num_base_parameters(model: nn.Module) -> int:
    """Count a model's own parameters; what an adapter or single rows of tokens add is left out."""
    added = [p for layer in lora_layers(model).values() for p in _saved_parameters(layer).values()]
    added += [rows for _, rows in token_rows(model).values()]
    return sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in added)


def read_adapter_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read an adapter's config and refuse what would be computed wrongly here.

    Raises:
        CheckpointError: not readable, not LoRA, or LoRA of a kind that is not supported.
    """
    path = Path(folder) / ADAPTER_CONFIG
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}.") from error
    if config.get("peft_type") != "LORA" or not {"r", "lora_alpha"} <= config.keys():
        raise CheckpointError(
            f"{path}: peft_type is {config.get('peft_type')}; only LORA with r and lora_alpha is "
            "supported. Merge the adapter with the tool that made it."
        )
    for key, plain in _UNSUPPORTED.items():
        if config.get(key, plain) not in (plain, None, False, [], {}):
            raise CheckpointError(
                f"{path}: {key} is {config[key]!r}, which is not supported. "
                "Merge the adapter with the tool that made it."
            )
    if config.get("init_lora_weights") not in _HARMLESS_STARTS:
        raise CheckpointError(
            f"{path}: init_lora_weights is {config['init_lora_weights']!r}, so that the adapter"
            " belongs to a changed base. Save it with path_initial_model_for_weight_conversion,"
            " or merge it with the tool that made it."
        )
    return config


def _describe(layer: LoRALinear) -> dict[str, Any]:
    """Give the settings that all layers share, as PEFT names them."""
    low, _ = layer.as_plain()
    rank = low.shape[1]
    is_wider = rank != layer.rank  # PiSSA; the scale stays
    return {
        "r": rank,
        "lora_alpha": layer.scale * rank if is_wider else layer.alpha,
        "lora_dropout": layer.dropout.p,
        "use_rslora": layer.rslora and not is_wider,
        "use_dora": layer.magnitude is not None,
        "fan_in_fan_out": layer.is_transposed,
    }


def _saved_parameters(layer: LoRALinear) -> dict[str, nn.Parameter]:
    found = (layer.lora_A, layer.lora_B, layer.magnitude)
    pairs = zip(_ENDINGS, found, strict=True)
    return {ending: parameter for ending, parameter in pairs if parameter is not None}


def _load_rows(model: PreTrainedModel, rows: dict[str, Tensor], *, asked: Any, path: Path) -> None:
    """Put trained rows of tokens into the modules that they belong to."""
    for key, saved in rows.items():
        name = key.removeprefix(_PREFIX).removesuffix(_ROWS_ENDING)
        ids = asked
        if isinstance(asked, dict):
            ids = next((ids for target, ids in asked.items() if is_named(name, target)), None)
        try:
            module = model.get_submodule(name)
        except AttributeError:
            module = None
        width = getattr(getattr(module, "weight", None), "shape", (0, 0))[-1]
        if module is None or not ids or saved.shape != (len(ids), width):
            raise CheckpointError(
                f"{path}: {key} is {tuple(saved.shape)}, and the model's {name} has rows of "
                f"{width} for the {counted(len(ids or ()), 'token')} of trainable_token_indices."
            )
        _make_room(model, ids, path=path)
        _attach(model, model.get_submodule(name), ids, saved)


def _make_room(model: PreTrainedModel, ids: Sequence[int], *, path: Path) -> None:
    """Add rows for tokens that were new to the base; all of them are in the file."""
    num_rows = len(matrix(model.get_input_embeddings()))
    beyond = sorted(token_id for token_id in ids if token_id >= num_rows)
    if not beyond:
        return
    if beyond != list(range(num_rows, num_rows + len(beyond))):
        raise CheckpointError(
            f"{path}: has rows for the tokens {beyond}, and the base model {num_rows} rows; load "
            "the base that the adapter was trained on."
        )
    model.resize_token_embeddings(num_rows + len(beyond), mean_resizing=False)
    model.requires_grad_(False)
    for layer in lora_layers(model).values():
        for parameter in _saved_parameters(layer).values():
            parameter.requires_grad_(True)


def _attach(model: nn.Module, module: nn.Module, ids: Sequence[int], saved: Tensor) -> None:
    weight = matrix(module)
    rows = nn.Parameter(saved.to(weight))
    for other in model.modules():  # a tied head shares the rows as it shares the weight
        if getattr(other, "weight", None) is weight:
            attach_rows(other, ids, rows=rows)


def _short_names(model: nn.Module, names: Sequence[str]) -> list[str]:
    """Name layers by their ends where that means the same layers to PEFT, else in full."""
    ends = sorted({name.rpartition(".")[2] for name in names})
    meant = {name for name, _ in model.named_modules() if any(is_named(name, e) for e in ends)}
    return ends if meant == set(names) else sorted(names)


def _module_name(key: str, path: Path) -> str:
    for ending in _ENDINGS:
        if key.startswith(_PREFIX) and key.endswith(ending):
            return key.removeprefix(_PREFIX).removesuffix(ending)
    raise CheckpointError(f"{path}: {key} is no LoRA weight; merge with the tool that made it.")
