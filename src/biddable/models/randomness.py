"""Noise in training: NEFTune's, and whether a model draws any at all.

Where rows of a batch share what is computed for their common start, they would share its noise
too, and what is kept from one epoch to the next would keep it; who does either asks here first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

_NOISY_NAMES = ("drop", "jitter")  # attention_dropout, layerdrop, router_jitter_noise


@contextmanager
def noisy_embeddings(model: nn.Module, *, alpha: float | None) -> Iterator[None]:
    """Add noise to a model's embeddings in training mode, while the block runs (NEFTune).

    To each number of an embedded batch (B, T, D) one is added that is drawn evenly from -s to s,
    s = alpha / sqrt(T * D) (Jain et al. 2023, arXiv 2310.05914). T is the length of the batch, its
    padding included, as in transformers.

    Args:
        model: a transformers causal LM.
        alpha: the noise's strength, 5 to 15 in the paper; None for none.
    """
    if alpha is None:
        yield
        return
    embeddings: nn.Module = model.get_input_embeddings()  # type: ignore[operator]
    handle = embeddings.register_forward_hook(_Noise(alpha))
    try:
        yield
    finally:
        handle.remove()


def shares_noise(model: nn.Module) -> str | None:
    """Say what would be random in a forward pass in training mode, and so be shared between rows.

    Args:
        model: a transformers causal LM, in any mode.

    Returns:
        The first thing found, in words; None if a pass is the same every time.
    """
    return next((told for _, told in drawn_noise(model)), None)


def drawn_noise(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Go through what is random in a forward pass in training mode, by the modules' settings.

    Args:
        model: a transformers causal LM, in any mode.

    Yields:
        The module that draws, and what, in words.
    """
    for name, module in model.named_modules():
        for hook in module._forward_hooks.values():
            if isinstance(hook, _Noise):
                yield module, f"NEFTune's noise of {hook.alpha:g} on the embeddings"
        if isinstance(module, _DropoutNd):
            found = {"dropout": module.p}
        else:
            found = {
                key: value
                for key, value in vars(module).items()
                if isinstance(value, float) and any(part in key for part in _NOISY_NAMES)
            }
        for key, share in found.items():
            if share > 0:
                yield module, f"{key} of {share:g} in {name}"


class _Noise:
    """A hook that adds the noise."""

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not module.training:
            return output
        bound = self.alpha / math.sqrt(output.shape[-2] * output.shape[-1])
        return output + torch.empty_like(output).uniform_(-bound, bound)
