"""Plan on paper: what a model of some config takes on GPUs that are not here.

The model is built without numbers, so that its parameters and what autograd keeps are counted, not
guessed; how they are spread over GPUs is in spreading.py. Nothing is measured.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from biddable.config_training import MethodConfig, TrainingConfig
from biddable.errors import ConfigError, nearest
from biddable.models.adapter import num_base_parameters
from biddable.models.lora import apply_lora, lora_layers
from biddable.training.advice import Suggestion
from biddable.training.costs import Work
from biddable.training.method import apply_method
from biddable.training.shadow import without_numbers
from biddable.training.spreading import Load, Precision, Spread, Spreading

RESERVED = 2 * 10**9  # of a GPU, for its context, libraries and the network's buffers
_USABLE = 0.95  # of the rest: what the allocator's gaps leave
_NEEDED_KEYS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
_LORA_RANK = 8
_SMALLER: dict[Precision, str] = {
    "mixed": "passes in bfloat16",
    "bfloat16": "weights and optimizer too, which rounds small updates away",
}


@dataclass(frozen=True, slots=True)
class Hardware:
    """Say what the run would have.

    Attributes:
        num_gpus: alike, and each with its own process.
        gpu_memory: bytes of one.
        gpu_tflops: 10**12 operations a second that one reaches in training; None: unknown.
    """

    num_gpus: int
    gpu_memory: int
    gpu_tflops: float | None = None


@dataclass(frozen=True, slots=True)
class PaperPlan:
    """Hold a plan on paper.

    Attributes:
        architecture: the model's class.
        method: what trains, in words.
        num_parameters: of the model without an adapter; shared ones count once.
        num_trained: that train, an adapter's among them.
        hardware: as asked about.
        load: as asked about.
        usable: bytes of each GPU.
        spreads: each way to spread it.
        operations_per_token: with the gradient; attention between tokens left out.
        tokens_per_s: of all GPUs; None where their speed is unknown.
        suggestions: where no way fits.
    """

    architecture: str
    method: str
    num_parameters: int
    num_trained: int
    hardware: Hardware
    load: Load
    usable: int
    spreads: list[Spread]
    operations_per_token: float
    tokens_per_s: float | None
    suggestions: list[Suggestion]

    @property
    def fits(self) -> bool:
        """Whether some way to spread it does, of those that are asked for."""
        return any(spread.fits for spread in self.spreads if spread.is_asked_for)

    def as_json(self) -> dict[str, Any]:
        """Give it for a program to read; sizes in bytes."""
        described = {"fits": self.fits, **asdict(self)}
        for shown, spread in zip(described["spreads"], self.spreads, strict=True):
            shown["memory"]["peak"] = spread.memory.peak
        return described


def plan_on_paper(
    path: str | os.PathLike[str],
    method: MethodConfig,
    *,
    hardware: Hardware,
    load: Load,
    settings: TrainingConfig | None = None,
) -> PaperPlan:
    """Plan a run from a transformers config alone.

    Args:
        path: a config.json, or the folder that holds one.
        method: what would train.
        hardware: what there would be.
        load: what each GPU would be given.
        settings: how it would be spread; None: whichever way is better.

    Raises:
        ConfigError: the file is no config of a known causal language model, or the method does
            not fit it.
    """
    model = build_without_numbers(path, load.precision)
    try:
        described = apply_method(model, method)
    except (NotImplementedError, RuntimeError, ImportError) as error:
        raise ConfigError(
            f"method: this one works on the weights themselves, which are not here ({error})."
            " Leave that setting out; what it takes hardly differs."
        ) from error
    usable = max(round(_USABLE * (hardware.gpu_memory - RESERVED)), 0)
    spread = Spreading(load, usable, settings)
    spreads = spread.over(model, hardware.num_gpus)
    work = Work.of(model)
    operations = work.train_token + work.train_place
    if load.recompute:
        operations += work.forward_token
    speed = hardware.gpu_tflops and hardware.gpu_tflops * 1e12 * hardware.num_gpus / operations
    plan = PaperPlan(
        architecture=type(model).__name__,
        method=described,
        num_parameters=num_base_parameters(model),
        num_trained=sum(p.numel() for p in model.parameters() if p.requires_grad),
        hardware=hardware,
        load=load,
        usable=usable,
        spreads=spreads,
        operations_per_token=operations,
        tokens_per_s=speed,
        suggestions=[],
    )
    if not plan.fits:
        plan.suggestions.extend(_suggest(model, plan, spread))
    return plan


def build_without_numbers(
    path: str | os.PathLike[str], precision: Precision = "float32"
) -> PreTrainedModel:
    """Build a model from its config on the meta device: all shapes, no memory.

    Args:
        path: a config.json, or the folder that holds one.
        precision: of its passes.

    Raises:
        ConfigError: the file is no config of a known causal language model.
    """
    config = read_model_config(path)
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    try:
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    except Exception as error:  # whatever an architecture's code says to sizes that do not fit
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ConfigError(
            f"{path}: no causal language model can be built from it: {reason}"
        ) from error
    return model.requires_grad_(True)


def read_model_config(path: str | os.PathLike[str]) -> PretrainedConfig:
    """Read a transformers config.json; no code that it may name is run.

    Raises:
        ConfigError: it is missing, is no JSON, names no known architecture, or lacks sizes.
    """
    file = Path(path)
    file = file / "config.json" if file.is_dir() else file
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read: {error.strerror}; expected a transformers config.json."
        ) from error
    except ValueError as error:
        raise ConfigError(f"{file}: is no JSON: {error}.") from error
    name = values.get("model_type") if isinstance(values, dict) else None
    if name is None:
        raise ConfigError(f'{file}: has no "model_type"; expected a transformers config.json.')
    if name not in CONFIG_MAPPING:
        known = list(CONFIG_MAPPING.keys())
        raise ConfigError(
            f'{file}: model_type "{name}" is not known to this version of transformers, and code'
            f" from elsewhere is not run.{nearest(str(name), known)}"
        )
    kind = CONFIG_MAPPING[name]
    given = values.get("text_config", values)  # of a model that reads images, too
    missing = [
        key for key in _NEEDED_KEYS if key not in given and kind.attribute_map.get(key) not in given
    ]
    if missing:
        raise ConfigError(f"{file}: lacks {', '.join(missing)}; sizes are not guessed.")
    try:
        config: PretrainedConfig = kind.from_dict(values)
    except Exception as error:  # each architecture checks in its own way
        raise ConfigError(f"{file}: {str(error).strip()}") from error
    return config


def _suggest(model: PreTrainedModel, plan: PaperPlan, spread: Spreading) -> list[Suggestion]:
    """Look for single changes that lower the peak of the best way to spread it."""
    load, num_gpus = plan.load, plan.hardware.num_gpus
    now = spread.peak(model, num_gpus)
    found = {}
    if not lora_layers(model):
        adapted = without_numbers(model)
        apply_lora(adapted, rank=_LORA_RANK)
        found[f"--method lora (rank {_LORA_RANK})"] = spread.peak(adapted, num_gpus)
    if not load.recompute:
        again = replace(spread, load=replace(load, recompute=True))
        found["--checkpointing: about a third more time"] = again.peak(model, num_gpus)
    if load.micro_tokens > 1:
        fewer = max(load.micro_tokens // 4, 1)
        smaller = replace(spread, load=replace(load, micro_tokens=fewer))
        found[f"--micro-tokens {fewer}"] = smaller.peak(model, num_gpus)
    if load.precision == "float32":
        half = without_numbers(model).bfloat16()
        for precision, what in _SMALLER.items():
            other = replace(spread, load=replace(load, precision=precision))
            found[f"--precision {precision}: {what}"] = other.peak(half, num_gpus)
    found[f"--gpus {2 * num_gpus}"] = spread.peak(model, 2 * num_gpus)
    for way in plan.spreads:
        if way.name == "FSDP2" and not way.is_asked_for:
            found["training.sharding: full"] = way.memory.peak
    suggestions = [
        Suggestion(change, now - peak, peak, peak <= plan.usable)
        for change, peak in found.items()
        if peak < 0.99 * now
    ]
    return sorted(suggestions, key=lambda suggestion: (not suggestion.fits, -suggestion.saves))
