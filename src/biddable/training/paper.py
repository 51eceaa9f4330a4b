"""Plan on paper: what a model of some config takes on GPUs that are not here.

The model is built without numbers, so that its parameters and what autograd keeps are counted, not
guessed; how they are spread over GPUs follows the formulas in docs/plan.md. Nothing is measured.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from biddable.config_training import MethodConfig
from biddable.errors import ConfigError, nearest
from biddable.models.freezing import decoder_layers
from biddable.models.lora import apply_lora, lora_layers
from biddable.training.advice import Suggestion
from biddable.training.costs import OPTIMIZER_STATES, Memory, States, Work, recomputed
from biddable.training.method import apply_method
from biddable.training.shadow import Shadow, without_numbers

Precision = Literal["float32", "mixed", "bfloat16"]

RESERVED = 2 * 10**9  # of a GPU, for its context, libraries and the network's buffers
_USABLE = 0.95  # of the rest: what the allocator's gaps leave
_NEEDED_KEYS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
_PROBES = (256, 512)  # tokens
_LORA_RANK = 8


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
class Load:
    """Say what each GPU would be given.

    Attributes:
        micro_tokens: tokens of a forward pass on one GPU.
        precision: ``float32``; ``mixed``, weights in float32 and passes in bfloat16; or
            ``bfloat16`` for all of it, the optimizer too.
        recompute: layers are computed again for the gradient.
    """

    micro_tokens: int = 4096
    precision: Precision = "float32"
    recompute: bool = False


@dataclass(frozen=True, slots=True)
class Spread:
    """Hold what one way to spread a model takes on each GPU.

    Attributes:
        name: ``one GPU``, ``DDP`` or ``FSDP2``.
        memory: at its peak.
        fits: within the usable part of the GPU.
        largest_micro_tokens: tokens of a forward pass that still fit; 0 if none do.
    """

    name: str
    memory: Memory
    fits: bool
    largest_micro_tokens: int


@dataclass(frozen=True, slots=True)
class PaperPlan:
    """Hold a plan on paper.

    Attributes:
        architecture: the model's class.
        method: what trains, in words.
        num_parameters: of the model, adapters included; shared ones count once.
        num_trained: of those, the ones that train.
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
        """Whether some way to spread it does."""
        return any(spread.fits for spread in self.spreads)

    def as_json(self) -> dict[str, Any]:
        """Give it for a program to read; sizes in bytes."""
        described = {"fits": self.fits, **asdict(self)}
        for shown, spread in zip(described["spreads"], self.spreads, strict=True):
            shown["memory"]["peak"] = spread.memory.peak
        return described


def plan_on_paper(
    path: str | os.PathLike[str], method: MethodConfig, *, hardware: Hardware, load: Load
) -> PaperPlan:
    """Plan a run from a transformers config alone.

    Args:
        path: a config.json, or the folder that holds one.
        method: what would train.
        hardware: what there would be.
        load: what each GPU would be given.

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
    spreads = spread_over(model, hardware.num_gpus, load=load, usable=usable)
    work = Work.of(model)
    operations = work.train_token + work.train_place
    if load.recompute:
        operations += work.forward_token
    speed = hardware.gpu_tflops and hardware.gpu_tflops * 1e12 * hardware.num_gpus / operations
    plan = PaperPlan(
        architecture=type(model).__name__,
        method=described,
        num_parameters=sum(p.numel() for p in model.parameters()),
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
        plan.suggestions.extend(_suggest(model, plan))
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


def spread_over(model: PreTrainedModel, num_gpus: int, *, load: Load, usable: int) -> list[Spread]:
    """Size each way to spread a model over GPUs.

    Args:
        model: without numbers, what trains settled on it.
        num_gpus: 1 or more.
        load: of each.
        usable: bytes of each.
    """
    parts = _Parts(model, load)
    ways: dict[str, Callable[[int], Memory]] = {"one GPU": parts.alone}
    if num_gpus > 1:
        ways = {
            "DDP": lambda tokens: parts.copied(tokens),
            "FSDP2": lambda tokens: parts.sharded(tokens, num_gpus),
        }
    found = []
    for name, size in ways.items():
        memory = size(load.micro_tokens)
        largest = _largest(size, usable)
        found.append(Spread(name, memory, memory.peak <= usable, largest))
    return found


class _Parts:
    """The parts that formulas are made of, in bytes; see docs/plan.md."""

    def __init__(self, model: PreTrainedModel, load: Load) -> None:
        # passes are in `passing` bytes a number, what the optimizer keeps in `kept`
        kept = 2 if load.precision == "bfloat16" else 4
        passing = model.dtype.itemsize
        self.is_mixed = kept != passing
        numbers = [(p.numel(), p.requires_grad) for p in model.parameters()]
        trained = sum(size for size, trains in numbers if trains)
        self.weights = kept * sum(size for size, _ in numbers)
        self.gradients = kept * trained
        self.optimizer = OPTIMIZER_STATES * kept * trained
        self.passing_weights = passing * sum(size for size, _ in numbers)
        layer, rest = _units(model)
        self.gathered = passing * (2 * layer[0] + rest[0])  # this layer, the next, and the rest
        self.gathered_gradient = passing * max(layer[1], rest[1])
        self.states = States.of(model)
        shadow = Shadow(model)
        small, large = (self._kept(shadow, model, tokens, load) for tokens in _PROBES)
        self.per_token = (large - small) / (_PROBES[1] - _PROBES[0])

    @staticmethod
    def _kept(shadow: Shadow, model: PreTrainedModel, tokens: int, load: Load) -> int:
        kept = shadow.kept(1, tokens)
        return recomputed(kept, tokens, model=model) if load.recompute else kept

    def alone(self, tokens: int) -> Memory:
        """Hold everything on one GPU."""
        return Memory(
            program=0,
            weights=self.weights + (self.passing_weights if self.is_mixed else 0),
            gradients=self.gradients,
            optimizer=self.optimizer,
            activations=round(self.per_token * tokens),
            logits=self.states.logits(tokens),
        )

    def copied(self, tokens: int) -> Memory:
        """Hold everything on each GPU, and the buckets in which gradients travel."""
        alone = self.alone(tokens)
        return Memory(
            program=0,
            weights=alone.weights,
            gradients=2 * self.gradients,
            optimizer=self.optimizer,
            activations=alone.activations,
            logits=alone.logits,
        )

    def sharded(self, tokens: int, num_gpus: int) -> Memory:
        """Hold a share of everything, and what is gathered for the layer at work."""
        return Memory(
            program=0,
            weights=-(-self.weights // num_gpus) + self.gathered,
            gradients=-(-self.gradients // num_gpus) + self.gathered_gradient,
            optimizer=-(-self.optimizer // num_gpus),
            activations=round(self.per_token * tokens),
            logits=self.states.logits(tokens),
        )


def _units(model: PreTrainedModel) -> tuple[tuple[int, int], tuple[int, int]]:
    """Count the parameters of the largest layer and of what is in no layer; and trained ones."""

    def count(parameters: Any) -> tuple[int, int]:
        sizes = [(p.numel(), p.requires_grad) for p in parameters]
        return sum(size for size, _ in sizes), sum(size for size, trains in sizes if trains)

    layers = decoder_layers(model)
    inside = {id(p) for layer in layers for p in layer.parameters()}
    largest = max((count(layer.parameters()) for layer in layers), key=max)
    return largest, count(p for p in model.parameters() if id(p) not in inside)


def _largest(size: Callable[[int], Memory], usable: int) -> int:
    """Search the most tokens that fit."""
    low, high = 0, 1
    while size(high).peak <= usable and high < 2**24:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle).peak <= usable else (low, middle)
    return low


def _suggest(model: PreTrainedModel, plan: PaperPlan) -> list[Suggestion]:
    """Look for single changes that lower the peak of the best way to spread it."""
    now = min(spread.memory.peak for spread in plan.spreads)
    load, num_gpus = plan.load, plan.hardware.num_gpus

    def best(changed: PreTrainedModel, changed_load: Load, count: int = num_gpus) -> int:
        spreads = spread_over(changed, count, load=changed_load, usable=plan.usable)
        return min(spread.memory.peak for spread in spreads)

    found = {}
    if not lora_layers(model):
        adapted = without_numbers(model)
        apply_lora(adapted, rank=_LORA_RANK)
        found[f"--method lora (rank {_LORA_RANK})"] = best(adapted, load)
    if not load.recompute:
        again = Load(load.micro_tokens, load.precision, recompute=True)
        found["--checkpointing: about a third more time"] = best(model, again)
    if load.micro_tokens > 1:
        fewer = max(load.micro_tokens // 4, 1)
        smaller = Load(fewer, load.precision, load.recompute)
        found[f"--micro-tokens {fewer}"] = best(model, smaller)
    found[f"--gpus {2 * num_gpus}"] = best(model, load, 2 * num_gpus)
    suggestions = [
        Suggestion(change, now - peak, peak, peak <= plan.usable)
        for change, peak in found.items()
        if peak < 0.99 * now
    ]
    return sorted(suggestions, key=lambda suggestion: (not suggestion.fits, -suggestion.saves))
