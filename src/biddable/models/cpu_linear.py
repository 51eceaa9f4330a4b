"""Multiply by a model's weights with oneDNN, where torch would take MKL, which is slower.

In float32 on an x86 CPU torch hands a linear layer to MKL, whose code for processors that are not
Intel's leaves half of their width unused. oneDNN is part of torch as well. It wants weights in
blocks, so small models are put into such once; the weights of large ones are read as they lie, and
blocked anew at each product, which costs little where many rows share it.
Only for inference: the kernel has no gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeGuard

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from biddable.models.products import fits, has_kernel, onednn_linear

_MOST_BLOCKED = 1 << 30  # bytes of weights that a second copy is made of
_NUM_ROWS = 64  # of a product that the blocks are made for


@contextmanager
def fast_linears(model: nn.Module) -> Iterator[None]:
    """Let the linear layers of a model use oneDNN inside; nothing where that cannot be.

    Layers that do more than a product (an adapter's, one in 8 bits) stay as they are.

    Args:
        model: any module; called inside without gradients.
    """
    layers = [layer for layer in model.modules() if _is_plain(layer)] if has_kernel() else []
    num_bytes, found = 0, []
    for layer in layers:
        weight = layer.weight.detach()
        num_bytes += weight.numel() * weight.element_size()
        if num_bytes <= _MOST_BLOCKED:
            weight = weight.T.contiguous() if type(layer) is Conv1D else weight
            weight = torch.ops.mkldnn._reorder_linear_weight(weight, _NUM_ROWS)
        elif type(layer) is Conv1D:
            continue  # it lies the other way round, and turning it at each product costs too much
        found.append(layer)
        layer.forward = partial(_linear, weight, layer.bias)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in found:
            del layer.__dict__["forward"]


def _linear(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    return onednn_linear(x, weight, bias)


def _is_plain(layer: nn.Module) -> TypeGuard[nn.Linear | Conv1D]:
    if type(layer) not in (nn.Linear, Conv1D) or "forward" in layer.__dict__:
        return False
    weight: Tensor = layer.weight  # type: ignore[assignment]
    return fits(weight) and weight.is_contiguous()
