"""A frozen linear layer and what an adapter adds to it, forward and backward in few passes.

Written as separate operations, the addition goes over arrays as wide as the layer several times;
here it is added into the frozen layer's result by the product itself, and likewise the gradient.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from biddable.models.products import linear, multiply
from biddable.models.remade import keep, kept, recipe_of


def low_rank_linear(x: Tensor, frozen: tuple[Tensor, Tensor | None], *added: Any) -> Tensor:
    """Compute ``x @ W.T + bias + scale * (x @ A) @ B``.

    Args:
        x: (..., in).
        frozen: W, (out, in), and the bias, (out,) or None; they get no gradient.
        added: A, (in, R); B, (R, out); the scale.

    Returns:
        (..., out).

    Example:
        >>> import torch
        >>> x, weight, a, b = (torch.ones(shape) for shape in ((1, 2), (3, 2), (2, 1), (1, 3)))
        >>> low_rank_linear(x, (weight, None), a, b, 0.5)
        tensor([[3., 3., 3.]])
    """
    flat: Tensor = _LowRank.apply(x.flatten(0, -2), recipe_of(x), *frozen, *added)  # type: ignore[no-untyped-call]
    return flat.view(*x.shape[:-1], -1)


class _LowRank(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, recipe: Any, *layer: Any) -> Tensor:
        weight, bias, low, high, scale = layer
        inner = x @ low  # (N, R)
        keep(ctx, x, recipe, weight, low, high, inner)
        ctx.scale = scale
        return linear(x, weight, bias).addmm_(inner, high, alpha=scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = outer  # (N, out)
        x, (weight, low, high, inner) = kept(ctx)
        assert x is not None
        grad_inner = (grad @ high.T).mul_(ctx.scale)  # (N, R)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = multiply(grad, weight).addmm_(grad_inner, low.T)
        grad_high = (inner.T @ grad).mul_(ctx.scale)
        return grad_x, None, None, None, x.T @ grad_inner, grad_high, None
