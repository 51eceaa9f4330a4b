"""Plan on paper: what a model of some config takes on GPUs that are not here.

The model is built without numbers, so that its parameters and what autograd keeps are counted, not
guessed; how they are spread over GPUs is in spreading.py. Nothing is measured.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from biddable.config_training import MethodConfig, TrainingConfig
from biddable.errors import ConfigError, nearest
from biddable.models.adapter import num_base_parameters
from biddable.models.lora import lora_layers
from biddable.training.changes import Change, Changed, Search, Suggestion
from biddable.training.costs import Work
from biddable.training.method import apply_method
from biddable.training.sharding import is_asked_for, is_divisible, require_divisible
from biddable.training.spreading import Counted, Load, Precision, Spread, Spreading

RESERVED = 2 * 10**9  # of a GPU, for its context, libraries and the network's buffers
_USABLE = 0.95  # of the rest: what the allocator's gaps leave
_NEEDED_KEYS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
_LORA_RANK, _LORA_YAML = 8, "{name: lora, rank: 8}"
_MORE_GPUS = (2, 4, 8)  # times as many
_FEW_TOKENS = 256  # of a pass; fewer keep a GPU waiting
_EFFECTS: dict[Precision, str] = {
    "float32": "passes in float32 too, without bfloat16 copies of the weights; slower",
    "mixed": "passes in bfloat16",
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
    def needed(self) -> int:
        """Bytes at the peak of the best way to spread it, of those that are asked for."""
        return min(spread.memory.peak for spread in self.spreads if spread.is_asked_for)

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
            not fit it, or cannot be spread as asked.
    """
    run = _Run(_Models(path), method, hardware, load, settings)
    plan = run.planned()
    return plan if plan.fits else replace(plan, suggestions=_suggest(run, limit=plan.usable))


class _Models:
    """Build each model that is asked about once."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        self._found: dict[tuple[str, torch.dtype], tuple[Counted, str]] = {}

    def of(self, method: MethodConfig, precision: Precision) -> tuple[Counted, str]:
        """Give the model with a method applied, counted, and the method in words."""
        key = (repr(method), _passing(precision))
        if key not in self._found:
            model = build_without_numbers(self.path, precision)
            try:
                described = apply_method(model, method)
            except (NotImplementedError, RuntimeError, ImportError) as error:
                raise ConfigError(
                    "method: this one works on the weights themselves, which are not here"
                    f" ({error}). Leave that setting out; what it takes hardly differs."
                ) from error
            self._found[key] = _count(model, self.path), described
        return self._found[key]


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """What is asked about, as `plan_on_paper` takes it; changed to see what would help."""

    models: _Models
    method: MethodConfig
    hardware: Hardware
    load: Load
    settings: TrainingConfig | None

    def planned(self) -> PaperPlan:
        """Plan it, without suggestions."""
        hardware, load = self.hardware, self.load
        counted, described = self.models.of(self.method, load.precision)
        model = counted.model
        if hardware.num_gpus > 1 and self.settings is not None and is_asked_for(self.settings):
            require_divisible(model)
        usable = max(round(_USABLE * (hardware.gpu_memory - RESERVED)), 0)
        work = Work.of(model)
        operations = work.train_token + work.train_place
        if load.recompute:
            operations += work.forward_token
        speed = hardware.gpu_tflops and hardware.gpu_tflops * 1e12 * hardware.num_gpus / operations
        return PaperPlan(
            architecture=type(model).__name__,
            method=described,
            num_parameters=num_base_parameters(model),
            num_trained=sum(p.numel() for p in model.parameters() if p.requires_grad),
            hardware=hardware,
            load=load,
            usable=usable,
            spreads=Spreading(load, usable, self.settings).over(counted, hardware.num_gpus),
            operations_per_token=operations,
            tokens_per_s=speed,
            suggestions=[],
        )


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
    try:
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(
                config, dtype=_passing(precision)
            )
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


def _count(model: PreTrainedModel, path: str | os.PathLike[str]) -> Counted:
    try:
        return Counted.of(model)
    except ConfigError:
        raise
    except Exception as error:  # whatever an architecture's code meets without numbers
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ConfigError(
            f"{path}: a pass of {type(model).__name__} cannot be counted on paper: {reason}"
        ) from error


def _passing(precision: Precision) -> torch.dtype:
    """Say what passes are in."""
    return torch.float32 if precision == "float32" else torch.bfloat16


def _suggest(run: _Run, *, limit: int) -> list[Suggestion]:
    """Look for changes that lower the peak of the best way to spread it."""
    needed = cache(lambda changed: changed.planned().needed)
    counted, _ = run.models.of(run.method, run.load.precision)
    changes = [] if lora_layers(counted.model) else [Change(_adapted), Change(_frozen)]
    changes += [Change(_recomputed), Change(_divided)]
    changes += [Change(_in_the_other_precision), Change(_quantized, cost=1), Change(_shorter)]
    changes.append(Change(lambda run: _more_gpus(run, needed, limit=limit), cost=2))
    return Search(run, changes, needed, limit).suggestions()


def _adapted(run: _Run) -> Changed[_Run]:
    method = MethodConfig(name="lora", rank=_LORA_RANK)
    setting = _setting(run, f"--method lora (rank {_LORA_RANK})", f"method: {_LORA_YAML}")
    return Changed(replace(run, method=method), setting)


def _frozen(run: _Run) -> Changed[_Run] | None:
    if run.method.name != "full":
        return None
    setting = _setting(run, "--method freeze", "method: freeze")
    effect = "the lower half of the layers stays as it is"
    return Changed(replace(run, method=MethodConfig(name="freeze")), setting, effect)


def _recomputed(run: _Run) -> Changed[_Run]:
    load = replace(run.load, recompute=True)
    setting = _setting(run, "--checkpointing", "training.gradient_checkpointing: true")
    return Changed(replace(run, load=load), setting, "about a third more time")


def _in_the_other_precision(run: _Run) -> Changed[_Run] | None:
    """Change between the two that train has."""
    if run.load.precision == "bfloat16":
        return None
    precision: Precision = "mixed" if run.load.precision == "float32" else "float32"
    load = replace(run.load, precision=precision)
    setting = _setting(run, f"--precision {precision}", f"training.precision: {precision}")
    return Changed(replace(run, load=load), setting, _EFFECTS[precision])


def _quantized(run: _Run) -> Changed[_Run] | None:
    """Make the frozen layers under an adapter small, where nothing asks for them to be divided."""
    is_divided = run.settings is not None and is_asked_for(run.settings)
    if run.method.name != "lora" or run.method.quantize_base or is_divided:
        return None
    changed = replace(run, method=run.method.model_copy(update={"quantize_base": "int4"}))
    try:
        changed.models.of(changed.method, changed.load.precision)
    except ConfigError:  # torchao is not installed, or a layer is no multiple of a block
        return None
    setting = _setting(run, "--quantize-base int4", "method.quantize_base: int4")
    return Changed(changed, setting, "frozen layers in 4 bits")


def _setting(run: _Run, flag: str, key: str) -> str:
    """Name a change as an option, or as what to write into the config that is planned."""
    return flag if run.settings is None else key


def _divided(run: _Run) -> Changed[_Run] | None:
    """Divide the model where the config says that it is whole on each of several GPUs."""
    if run.settings is None or is_asked_for(run.settings) or run.hardware.num_gpus == 1:
        return None
    if not is_divisible(run.models.of(run.method, run.load.precision)[0].model):
        return None
    settings = run.settings.model_copy(update={"sharding": "full"})
    return Changed(replace(run, settings=settings), "training.sharding: full")


def _more_gpus(run: _Run, needed: Callable[[_Run], int], *, limit: int) -> Changed[_Run] | None:
    """Double them until it fits; where that is of no use, once."""
    model, tried = run.models.of(run.method, run.load.precision)[0].model, []
    if run.settings is not None and is_asked_for(run.settings) and not is_divisible(model):
        return None  # on one GPU what the config asks for has no effect
    for factor in _MORE_GPUS:
        hardware = replace(run.hardware, num_gpus=factor * run.hardware.num_gpus)
        setting = f"--gpus {hardware.num_gpus}"
        tried.append(Changed(replace(run, hardware=hardware), setting))
        if needed(tried[-1].run) <= limit:
            return tried[-1]
    return tried[0]


def _shorter(run: _Run) -> Changed[_Run] | None:
    """Quarter the tokens of a pass until it fits, or they are few."""
    asked_for = [spread for spread in run.planned().spreads if spread.is_asked_for]
    most = max(spread.largest_micro_tokens for spread in asked_for)
    tokens = run.load.micro_tokens // 4
    while tokens > max(most, _FEW_TOKENS):
        tokens //= 4
    if not tokens:
        return None
    load = replace(run.load, micro_tokens=tokens)
    return Changed(replace(run, load=load), f"--micro-tokens {tokens}")
