"""The optimizer, its learning rate, and how that changes over a run."""

from __future__ import annotations

import math

import torch
from torch import nn

from biddable.config_training import TrainingConfig
from biddable.errors import ConfigError
from biddable.models.adapter import num_base_parameters
from biddable.models.lora import lora_layers
from biddable.models.token_rows import ROWS
from biddable.training.shards import is_divided

_HALF_BILLION, _TWO_BILLION = 5e8, 2e9


def build_optimizer(
    model: nn.Module, *, learning_rate: float, weight_decay: float = 0.0
) -> torch.optim.AdamW:
    """Build AdamW over the parameters that are to be trained.

    Weight decay pulls matrices of layers, adapters among them. It leaves alone norms, biases and
    all else that is a vector, and embeddings (with a head that shares their weight): the row of
    a token that the data lacks has no gradient, so that decay alone would move it, step after
    step, away from what the base knows.

    Args:
        model: its parameters with ``requires_grad`` are trained.
        learning_rate: the peak; see `set_learning_rate`.
        weight_decay: of the matrices.

    Returns:
        The optimizer, fused: one kernel for all parameters of a group.
    """
    vocabulary = {
        id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()
    }
    ratios = {id(layer.lora_B): layer.rate_ratio for layer in lora_layers(model).values()}
    groups: dict[tuple[bool, float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_row = id(parameter) in vocabulary or name.endswith(f".{ROWS}")
        decays = parameter.dim() >= 2 and not is_row
        # one kernel takes only what is divided among processes, or only what is not
        key = (not decays, ratios.get(id(parameter), 1.0), is_divided(parameter))
        groups.setdefault(key, []).append(parameter)
    optimizer = torch.optim.AdamW(
        [
            {
                "params": groups[key],
                "weight_decay": 0.0 if key[0] else weight_decay,
                "rate_ratio": key[1],
            }
            for key in sorted(groups)
        ],
        lr=learning_rate,
        fused=True,
    )
    set_learning_rate(optimizer, learning_rate)
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the rate of every group: the one given, times the group's own ratio (LoRA+)."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["rate_ratio"]


def schedule_factor(step: int, num_steps: int, *, settings: TrainingConfig) -> float:
    """Return what the peak learning rate is multiplied by at a step.

    It climbs in the warm-up, to 1. Then ``constant`` stays, ``linear`` and ``cosine`` (half of
    one) fall over the steps that are left, and ``wsd`` stays and falls in the last ones, by 1 minus
    a square root (Hägele et al. 2024, arXiv 2405.18392). The last step is one short of the end
    of the fall, so that it still learns.

    Args:
        step: 0 for the first.
        num_steps: of the whole run.
        settings: the schedule, its warm-up, its floor and, of ``wsd``, its fall.

    Returns:
        More than 0 and at most 1; from the peak on at least ``min_lr_share``.

    Raises:
        ConfigError: the warm-up has more steps than the run.

    Example:
        >>> settings = TrainingConfig(schedule="linear", warmup_share=0.2)
        >>> [round(schedule_factor(n, 5, settings=settings), 2) for n in range(5)]
        [1.0, 1.0, 0.75, 0.5, 0.25]
    """
    num_warmup = settings.warmup_steps
    if num_warmup is None:
        num_warmup = math.ceil(settings.warmup_share * num_steps)
    if num_warmup > num_steps:
        raise ConfigError(
            f"training.warmup_steps: found {num_warmup}; the run has {num_steps} steps, so that it"
            " would never reach its learning rate. Lower it, or train for more epochs."
        )
    if step < num_warmup:
        return (step + 1) / num_warmup
    start, schedule = num_warmup, settings.schedule
    if schedule == "wsd":
        start = max(num_steps - math.ceil(settings.decay_share * num_steps), num_warmup)
    if schedule == "constant" or step < start:
        return 1.0
    progress = (step - start) / (num_steps - start)
    falls = {
        "linear": 1 - progress,
        "cosine": 0.5 * (1 + math.cos(math.pi * progress)),
        "wsd": 1 - math.sqrt(progress),
    }
    floor = settings.min_lr_share
    return floor + (1 - floor) * falls[schedule]


def choose_learning_rate(model: nn.Module, method_name: str) -> tuple[float, str]:
    """Choose a learning rate by the model's size and the method.

    Args:
        model: counted with all of its own parameters, trained or not, and without an adapter's.
        method_name: ``full``, ``freeze`` (the same rule) or ``lora``.

    Returns:
        The rate, and the reason in words.
    """
    size = num_base_parameters(model)
    if method_name == "lora":
        rate = 2e-3 if size < _HALF_BILLION else 2e-4
    elif size < _TWO_BILLION:
        rate = 1e-3 if size < _HALF_BILLION else 3e-4
    else:
        rate = 1e-5
    label = f"{size / 1e9:.1f} B" if size >= 1e9 else f"{size / 1e6:.1f} M"
    return rate, f"{rate:g} for method {method_name} on {label} parameters"


def peak_learning_rate(model: nn.Module, settings: TrainingConfig) -> tuple[float, str]:
    """Say which learning rate `train` rises to, and why."""
    if settings.learning_rate is not None:
        return settings.learning_rate, "as given"
    return choose_learning_rate(model, _method_of(model))


def _method_of(model: nn.Module) -> str:
    if lora_layers(model):
        return "lora"
    return "full" if all(p.requires_grad for p in model.parameters()) else "freeze"
