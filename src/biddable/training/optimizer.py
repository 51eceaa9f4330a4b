"""The optimizer, its learning rate, and how that changes over a run."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn

from biddable.config_training import TrainingConfig
from biddable.models.lora import lora_layers

Schedule = Literal["cosine", "linear", "constant"]

_HALF_BILLION, _TWO_BILLION = 5e8, 2e9


def build_optimizer(
    model: nn.Module, *, learning_rate: float, weight_decay: float = 0.0
) -> torch.optim.AdamW:
    """Build AdamW over the parameters that are to be trained.

    Args:
        model: its parameters with ``requires_grad`` are trained.
        learning_rate: the peak; the trainer scales it at every step.
        weight_decay: applied to matrices, not to norms and biases.

    Returns:
        The optimizer, fused: one kernel for all parameters.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=learning_rate, fused=True)


def schedule_factor(
    step: int, num_steps: int, *, schedule: Schedule = "cosine", warmup_share: float = 0.1
) -> float:
    """Return what the peak learning rate is multiplied by at a step.

    Args:
        step: 0 for the first.
        num_steps: of the whole run.
        schedule: the way down after the warm-up; ``constant`` stays up.
        warmup_share: share of the steps in which the rate climbs, rounded up.

    Returns:
        More than 0 and at most 1.

    Example:
        >>> [round(schedule_factor(s, 5, schedule="linear", warmup_share=0.2), 2) for s in range(5)]
        [1.0, 1.0, 0.75, 0.5, 0.25]
    """
    num_warmup = math.ceil(warmup_share * num_steps)
    if step < num_warmup:
        return (step + 1) / num_warmup
    if schedule == "constant":
        return 1.0
    progress = (step - num_warmup) / max(num_steps - num_warmup, 1)
    if schedule == "linear":
        return 1 - progress
    return 0.5 * (1 + math.cos(math.pi * progress))


def choose_learning_rate(model: nn.Module, method_name: str) -> tuple[float, str]:
    """Choose a learning rate by the model's size and the method.

    Args:
        model: counted with all of its parameters, trained or not.
        method_name: ``full``, ``freeze`` (the same rule) or ``lora``.

    Returns:
        The rate, and the reason in words.
    """
    size = sum(p.numel() for p in model.parameters())
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
