"""Choose where models run: on a GPU where torch sees one, else on the CPU."""

from __future__ import annotations

import os

import torch

from biddable.errors import ConfigError


def choose_device() -> torch.device:
    """Choose this process's device.

    Each process that torchrun has started takes a GPU of its own. ``CUDA_VISIBLE_DEVICES`` says
    which GPUs torch sees; empty, none.

    Raises:
        ConfigError: torchrun has started more processes on this machine than there are GPUs.

    Example:
        >>> choose_device().type in ("cpu", "cuda")
        True
    """
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not num_gpus:
        return torch.device("cpu")
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    if rank >= num_gpus:
        raise ConfigError(
            f"process {rank + 1} of this machine has no GPU of its own: torch sees {num_gpus}."
            " Start as many processes as there are GPUs (torchrun --nproc-per-node), or set"
            " CUDA_VISIBLE_DEVICES to nothing to train on the CPU."
        )
    return torch.device("cuda", rank)
