"""Low-rank adapters: wrap the linear layers of a model, merge them back, save and load them.

Files are PEFT's own format, so that an adapter goes to and from any tool that knows it. Only
which parameters train is settled here; the trainer is the same for every method.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from biddable.errors import CheckpointError, ConfigError, nearest
from biddable.manifest import write_json

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."  # PEFT names a module as seen from its own wrapper
# what PEFT can save and this layer cannot compute, and the value that asks for none of it
_UNSUPPORTED: dict[str, Any] = {
    "bias": "none",
    "use_dora": False,
    "use_rslora": False,
    "lora_bias": False,
    "fan_in_fan_out": False,
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "layer_replication": None,
    "trainable_token_indices": None,
}


class LoRALinear(nn.Module):
    """A frozen linear layer with a trained low-rank addition.

    Computes ``x @ W.T + bias + (alpha / rank) * (x @ A) @ B``. B starts at zero, so that a fresh
    adapter changes nothing.

    Attributes:
        frozen_weight: W, (out, in), not trained.
        lora_A: A, (in, R).
        lora_B: B, (R, out).
        scale: alpha / rank.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        rank: int = 8,
        *,
        alpha: float | None = None,
        dropout: float = 0.0,
        bias: bool = False,
    ) -> None:
        """Make a layer with random weights; `from_linear` takes those of a trained one.

        Args:
            in_features: width of the input.
            out_features: width of the output.
            rank: R, the width between A and B.
            alpha: strength; None means the rank, a scale of 1.
            dropout: share of the adapter's input that is dropped in training.
            bias: whether the frozen layer has one.

        Raises:
            ConfigError: the rank is below 1.
        """
        super().__init__()
        if rank < 1:
            raise ConfigError(f"method.rank: found {rank}; it should be at least 1.")
        self.in_features, self.out_features, self.rank = in_features, out_features, rank
        self.alpha = float(rank if alpha is None else alpha)
        self.scale = self.alpha / rank
        bound = 1 / math.sqrt(in_features)
        weight = torch.empty(out_features, in_features).uniform_(-bound, bound)
        self.frozen_weight = nn.Parameter(weight, requires_grad=False)
        zeros = torch.zeros(out_features)
        self.frozen_bias = nn.Parameter(zeros, requires_grad=False) if bias else None
        # PEFT's start: He uniform with a = sqrt(5), which is this bound
        self.lora_A = nn.Parameter(torch.empty(in_features, rank).uniform_(-bound, bound))
        self.lora_B = nn.Parameter(torch.zeros(rank, out_features))
        self.dropout = nn.Dropout(dropout)

    @classmethod
    def from_linear(
        cls,
        linear: nn.Linear,
        *,
        rank: int = 8,
        alpha: float | None = None,
        dropout: float = 0.0,
    ) -> LoRALinear:
        """Wrap a linear layer; its weight is shared, not copied, and frozen."""
        sizes = (linear.in_features, linear.out_features, rank)
        with torch.device("meta"):  # all of its own weights are replaced below
            layer = cls(*sizes, alpha=alpha, dropout=dropout)
        weight = linear.weight
        bound = 1 / math.sqrt(linear.in_features)
        start = torch.empty(linear.in_features, rank).uniform_(-bound, bound).to(weight)
        layer.frozen_weight = nn.Parameter(weight.data, requires_grad=False)
        if linear.bias is not None:
            layer.frozen_bias = nn.Parameter(linear.bias.data, requires_grad=False)
        layer.lora_A = nn.Parameter(start)
        layer.lora_B = nn.Parameter(weight.new_zeros(rank, linear.out_features))
        return layer.train(linear.training)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        frozen = F.linear(x, self.frozen_weight, self.frozen_bias)
        low_rank: Tensor = (self.dropout(x) @ self.lora_A) @ self.lora_B
        return frozen + self.scale * low_rank

    @torch.no_grad()
    def merge(self) -> nn.Linear:
        """Fold the adapter into a plain linear layer; the sum is made in float32 at least."""
        wide = torch.promote_types(self.frozen_weight.dtype, torch.float32)
        addition = self.scale * (self.lora_A.to(wide) @ self.lora_B.to(wide)).T  # (out, in)
        weight = (self.frozen_weight.to(wide) + addition).to(self.frozen_weight.dtype)
        with torch.device("meta"):
            has_bias = self.frozen_bias is not None
            linear = nn.Linear(self.in_features, self.out_features, bias=has_bias)
        linear.weight = nn.Parameter(weight)
        if self.frozen_bias is not None:
            linear.bias = nn.Parameter(self.frozen_bias.data)
        return linear

    def extra_repr(self) -> str:
        """Show the sizes when the model is printed."""
        return f"{self.in_features}, {self.out_features}, rank={self.rank}, alpha={self.alpha:g}"


def apply_lora(
    model: nn.Module,
    *,
    rank: int = 8,
    alpha: float | None = None,
    dropout: float = 0.0,
    target_modules: Literal["all-linear"] | Sequence[str] = "all-linear",
) -> list[str]:
    """Give linear layers of a model an adapter, in place, and freeze everything else.

    Args:
        model: a transformers causal LM.
        rank: size of each adapter.
        alpha: strength; None means the rank.
        dropout: share of each adapter's input dropped in training.
        target_modules: names of layers, or ends of them (``q_proj``); ``all-linear`` means every
            linear layer but the head.

    Returns:
        The full names of the layers that were wrapped.

    Raises:
        ConfigError: a target names no linear layer, there is none, or the model has adapters.
    """
    if lora_layers(model):
        raise ConfigError("method: the model already has adapters; merge them first.")
    names = _target_names(model, target_modules)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for name in names:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        layer = LoRALinear.from_linear(linear, rank=rank, alpha=alpha, dropout=dropout)
        model.set_submodule(name, layer)
    return names


def merge_lora(model: nn.Module) -> nn.Module:
    """Fold every adapter of a model into its layer, in place; the model is plain afterwards."""
    for name, layer in lora_layers(model).items():
        model.set_submodule(name, layer.merge())
    return model


def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """Return the adapted layers of a model by their full names."""
    return {name: m for name, m in model.named_modules() if isinstance(m, LoRALinear)}


def save_adapter(model: nn.Module, folder: str | os.PathLike[str], *, base_model: str) -> None:
    """Write a model's adapters as PEFT does.

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
    weights = {}
    for name, layer in layers.items():
        weights[f"{_PREFIX}{name}.lora_A.weight"] = layer.lora_A.detach().T.contiguous()
        weights[f"{_PREFIX}{name}.lora_B.weight"] = layer.lora_B.detach().T.contiguous()
    any_layer = next(iter(layers.values()))
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": any_layer.rank,
        "lora_alpha": any_layer.alpha,
        "lora_dropout": any_layer.dropout.p,
        "target_modules": _short_names(model, list(layers)),
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


def load_adapter(model: nn.Module, folder: str | os.PathLike[str]) -> list[str]:
    """Wrap a model's layers with the adapters of a folder in PEFT's format.

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
        raise CheckpointError(f"{path}: cannot be read: {error}.") from error
    names = sorted({_module_name(key, path) for key in weights})
    linears = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    strangers = [name for name in names if name not in linears]
    if strangers:
        raise CheckpointError(
            f"{path}: the base model has no linear layer {strangers[0]} ({len(strangers)} such); "
            "load the base that the adapter was trained on."
        )
    alpha, dropout = float(config["lora_alpha"]), float(config.get("lora_dropout") or 0.0)
    apply_lora(model, rank=config["r"], alpha=alpha, dropout=dropout, target_modules=names)
    for name, layer in lora_layers(model).items():
        for letter, parameter in (("A", layer.lora_A), ("B", layer.lora_B)):
            saved = weights.get(f"{_PREFIX}{name}.lora_{letter}.weight")
            if saved is None or saved.T.shape != parameter.shape:
                raise CheckpointError(
                    f"{path}: {name}.lora_{letter} should be {tuple(parameter.shape[::-1])}, "
                    f"found {None if saved is None else tuple(saved.shape)}."
                )
            parameter.data.copy_(saved.T)
    return names


def read_adapter_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read an adapter's config and refuse what `LoRALinear` would compute wrongly.

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
    return config


def _target_names(model: nn.Module, targets: Literal["all-linear"] | Sequence[str]) -> list[str]:
    """Resolve targets to full names of linear layers, the head left out of ``all-linear``."""
    find_head = getattr(model, "get_output_embeddings", lambda: None)
    head = find_head()
    linears = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    ]
    if not linears:
        raise ConfigError(
            f"method: {type(model).__name__} has no torch.nn.Linear layer beside its head, so that "
            "LoRA has nothing to adapt. Use method full or freeze."
        )
    if targets == "all-linear":
        return linears
    for target in targets:
        if not any(_matches(name, target) for name in linears):
            known = sorted({name.rpartition(".")[2] for name in linears})
            raise ConfigError(
                f'method.target_modules: no linear layer is called "{target}"; '
                f"known: {', '.join(known)}.{nearest(target, known)}"
            )
    return [name for name in linears if any(_matches(name, target) for target in targets)]


def _short_names(model: nn.Module, names: Sequence[str]) -> list[str]:
    """Name layers by their ends where that means the same layers to PEFT, else in full."""
    ends = sorted({name.rpartition(".")[2] for name in names})
    meant = {name for name, _ in model.named_modules() if any(_matches(name, e) for e in ends)}
    return ends if meant == set(names) else sorted(names)


def _matches(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _module_name(key: str, path: Path) -> str:
    for ending in (".lora_A.weight", ".lora_B.weight"):
        if key.startswith(_PREFIX) and key.endswith(ending):
            return key.removeprefix(_PREFIX).removesuffix(ending)
    raise CheckpointError(f"{path}: {key} is no LoRA weight; merge with the tool that made it.")
