"""Keep weights in 8 or 4 bits: a model that only answers, or a base under adapters (QLoRA).

Dettmers et al. 2023, arXiv 2305.14314. torchao makes and reads the small weights; here is what
training needs beside it: the gradient goes through, and no wide copy of a weight is kept for it.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from biddable.errors import ConfigError, how_to_install

QuantizedKind = Literal["int8", "int4"]

_BLOCK, _SCALES_BLOCK = 64, 256  # QLoRA's: numbers to a scale, and scales to a scale of scales


def quantize_weight(weight: Tensor, kind: QuantizedKind) -> nn.Parameter:
    """Make a weight small.

    Args:
        weight: (out, in), float32 or half.
        kind: ``int8``, a scale for each row; ``int4``, QLoRA's 4-bit NormalFloat, a scale for 64
            numbers, itself kept in 8 bits.

    Returns:
        A frozen parameter of the same shape and nominal type; see `wide`.

    Raises:
        ConfigError: torchao is not installed, or the weight cannot be cut into blocks.
    """
    try:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_, to_nf4
    except ImportError as error:
        raise ConfigError(
            "method.quantize_base, or --quantize: small weights need a package: "
            f"{how_to_install('quant')}."
        ) from error
    if kind == "int8":
        with torch.device("meta"):
            linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        linear.weight = nn.Parameter(weight, requires_grad=False)
        quantize_(linear, Int8WeightOnlyConfig())
        return nn.Parameter(linear.weight, requires_grad=False)
    if weight.numel() % _BLOCK:
        raise ConfigError(
            f"method.quantize_base: int4 takes weights in blocks of {_BLOCK} numbers, and one of"
            f" {weight.shape[1]} by {weight.shape[0]} is no multiple of it. Use int8."
        )
    scales = math.gcd(weight.numel() // _BLOCK, _SCALES_BLOCK)
    small: Any = to_nf4(weight.contiguous(), block_size=_BLOCK, scaler_block_size=scales)
    return nn.Parameter(small, requires_grad=False)


def quantize_linears(model: PreTrainedModel, kind: QuantizedKind) -> int:
    """Keep a model's linear layers in few bits, in place, for answering; the head left out.

    Args:
        model: a transformers causal LM.
        kind: see `quantize_weight`.

    Returns:
        The number of layers that were made small.

    Raises:
        ConfigError: see `quantize_weight`; or the model has no such layers.
    """
    head = model.get_output_embeddings()
    found = [m for m in model.modules() if type(m) is nn.Linear and m is not head]
    if not found:
        raise ConfigError(
            f"--quantize: {type(model).__name__} has no linear layers that can be made small; "
            "most newer models have. Leave it out."
        )
    for layer in found:
        layer.weight = quantize_weight(layer.weight.detach(), kind)
    return len(found)


def wide(weight: Tensor) -> Tensor:
    """Give a weight as an ordinary tensor: itself, or what a small one stands for."""
    if hasattr(weight, "get_original_weight"):
        return weight.get_original_weight()  # type: ignore[no-any-return]
    return weight.dequantize() if is_small(weight) else weight


def frozen_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute ``x @ weight.T + bias`` for a frozen weight of either kind: (.., in) to (.., out)."""
    # the first is all that a compiler can follow
    if type(weight) is nn.Parameter or not is_small(weight):
        return F.linear(x, weight, bias)
    output: Tensor = _SmallLinear.apply(x, weight)  # type: ignore[no-untyped-call]
    return output if bias is None else output + bias


class QuantizedLinear(nn.Module):
    """A frozen linear layer that has no adapter, its weight small."""

    def __init__(self, linear: nn.Linear, kind: QuantizedKind) -> None:
        """Take a layer's weight and bias."""
        super().__init__()
        self.frozen_weight = quantize_weight(linear.weight.detach(), kind)
        bias = linear.bias
        self.frozen_bias = None if bias is None else nn.Parameter(bias.data, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        return frozen_linear(x, self.frozen_weight, self.frozen_bias)


class _SmallLinear(torch.autograd.Function):
    """Widen the weight for the product, and once more for the gradient, and keep neither."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.weight = weight
        return F.linear(x, wide(weight).to(x))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return gradient @ wide(ctx.weight).to(gradient), None


def is_small(weight: Tensor) -> bool:
    """Say whether a weight is kept in few bits; it has no storage of its own then."""
    return type(weight).__module__.startswith("torchao.")


def plain_parts(tensor: Tensor) -> list[Tensor]:
    """List the ordinary tensors that hold a tensor: itself, or those that a small one is made of.

    Example:
        >>> len(plain_parts(torch.zeros(2, 3)))
        1
    """
    if not is_small(tensor):
        return [tensor]
    names, _ = tensor.__tensor_flatten__()  # type: ignore[attr-defined]
    return [part for name in names for part in plain_parts(getattr(tensor, name))]
