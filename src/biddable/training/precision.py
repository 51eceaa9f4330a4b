"""Choose in what kind of numbers a run's passes are made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn

from biddable.config_training import TrainingConfig
from biddable.errors import ConfigError

MIXED = (
    "passes run in bfloat16, weights and moments stay in float32 (training.precision: float32 runs"
    " them in float32 too)"
)


def precision_on_gpu(settings: TrainingConfig | None) -> Literal["float32", "mixed"]:
    """Say what passes would be in on a GPU that has bfloat16.

    Args:
        settings: of the run; None: as by default.
    """
    return (settings and settings.precision) or "mixed"


def is_mixed(model: nn.Module, settings: TrainingConfig) -> bool:
    """Say whether passes run in bfloat16, while weights, gradients and moments are in float32.

    Args:
        model: on the device where it is trained.
        settings: of the run; where they leave it open, a GPU that has bfloat16 runs in it.

    Raises:
        ConfigError: it is asked for where there is no such GPU.
    """
    first = next(model.parameters())
    on_gpu = first.device.type == "cuda" and torch.cuda.is_bf16_supported()
    if settings.precision == "mixed" and not on_gpu:
        raise ConfigError(
            'training.precision: "mixed" needs a GPU that has bfloat16, and this model is on'
            f" {first.device.type}; remove it, or set it to float32."
        )
    is_open = settings.precision is None and first.dtype == torch.float32
    return on_gpu and (is_open or settings.precision == "mixed")


@contextmanager
def passes_in_precision(model: nn.Module, settings: TrainingConfig) -> Iterator[None]:
    """Run a model's passes in the kind of numbers that a run asks for.

    After Micikevicius et al. 2017 (arXiv 1710.03740), in bfloat16, which needs no scaled loss.

    Args:
        model: on the device where it is trained.
        settings: of the run.
    """
    # torch would keep the weights it has cast until the end, past the steps that change them
    with torch.autocast(
        "cuda", torch.bfloat16, enabled=is_mixed(model, settings), cache_enabled=False
    ):
        yield
