"""Add up the gradients of weights where they are kept, micro-batch after micro-batch.

Autograd makes the gradient of a weight in fresh memory and then adds it to what is there: two
passes over arrays as large as the model, for each micro-batch, and memory that the system has to
clear. On a CPU that is a tenth of the time. Here the product itself adds into the weight's
gradient, which stays in the same memory from step to step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from biddable.models.products import fits, is_best, linear, multiply
from biddable.models.remade import keep, kept, recipe_of
from biddable.models.replaced import replaced_output

# Numbers of a gradient that are made apart and then added, in memory that the next has again.
_NUM_AT_ONCE = 2**21
# What autograd calls the views that a head and what is behind it make of a layer's output.
_VIEWS = {"ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0", "AliasBackward0"}


@contextmanager
def direct_gradients(model: nn.Module, *, as_in: nn.Module | None = None) -> Iterator[None]:
    """Let plain linear layers and embeddings add to their weights' gradients in place.

    The numbers are those of autograd, up to the order of additions. A weight used elsewhere too,
    as a head's that is shared with the embedding, is given both shares. Products, those of frozen
    layers too, are made by the faster of torch's libraries.

    Args:
        model: on a CPU; elsewhere, and for layers of other kinds, nothing is changed. Gradients may
            be set to None between steps, and are to be added to nothing else meanwhile.
        as_in: the model that it is a copy without numbers of: the same layers are changed.
    """
    memory = _Memory()
    with ExitStack() as stack:
        for module, original in zip(model.modules(), (as_in or model).modules(), strict=True):
            compute = _compute_of(original)
            if compute is not None:
                stack.enter_context(replaced_output(module, partial(compute, module, memory)))
        yield


def is_kept_by_nothing(out: Tensor) -> bool:
    """Tell whether a tensor came straight out of a linear layer that is computed here.

    Its gradient does without the numbers, so that they may be overwritten.

    Args:
        out: as the layer gave it, or a view of that.
    """
    node = out.grad_fn
    while node is not None and node.name() in _VIEWS:
        node = node.next_functions[0][0]
    return isinstance(node, _Linear._backward_cls)


def _compute_of(module: nn.Module) -> Callable[..., Tensor] | None:
    """Give what computes such a layer, called with it first; None if it is left to autograd."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, nn.Parameter) or not weight.is_cpu:
        return None
    if type(weight.data) is not Tensor or _is_watched(weight):
        return None  # sharded or quantised; or somebody's hook is to see the gradient
    if type(module) is nn.Linear:
        return _linear
    if not weight.requires_grad:
        return None
    if type(module) is nn.Embedding and not (module.max_norm or module.scale_grad_by_freq):
        return _embed
    return None


def _is_watched(weight: nn.Parameter) -> bool:
    return bool(weight._backward_hooks or weight._post_accumulate_grad_hooks)


def _linear(module: nn.Linear, memory: _Memory, /, input: Tensor) -> Tensor:
    recipe = recipe_of(input)
    given = input.flatten(0, -2), module.weight, module.bias, recipe, memory
    flat: Tensor = _Linear.apply(*given)  # type: ignore[no-untyped-call]
    return flat.view(*input.shape[:-1], -1)


def _embed(module: nn.Embedding, memory: _Memory, /, input: Tensor) -> Tensor:
    given = input, module.weight, module.padding_idx, memory
    out: Tensor = _Embedding.apply(*given)  # type: ignore[no-untyped-call]
    return out


class _Memory:
    """The memory of each weight's gradient."""

    def __init__(self) -> None:
        self._buffers: dict[nn.Parameter, Tensor] = {}

    def start(self, weight: nn.Parameter) -> Tensor:
        """Give a weight a gradient whose numbers are still to be written."""
        if weight not in self._buffers:
            self._buffers[weight] = torch.empty_like(weight)
        weight.grad = self._buffers[weight]
        return weight.grad

    def add_product(self, weight: nn.Parameter, left: Tensor, right: Tensor) -> None:
        """Add a product to a weight's gradient."""
        is_new = weight.grad is None
        total = self.start(weight) if is_new else weight.grad
        assert total is not None
        if not (is_best() and fits(left)):
            torch.mm(left, right, out=total) if is_new else total.addmm_(left, right)
            return
        for part, rows in zip(
            *(t.split(_rows_at_once(weight)) for t in (total, left)), strict=True
        ):
            product = multiply(rows, right)
            part.copy_(product) if is_new else part.add_(product)


def _rows_at_once(weight: Tensor) -> int:
    return max(_NUM_AT_ONCE // weight.shape[1], 1)


class _Linear(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *layer: Any) -> Tensor:
        weight, bias, recipe, memory = layer
        keep(ctx, x if ctx.needs_input_grad[1] else None, recipe, weight)
        ctx.weight, ctx.memory = weight, memory
        return linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = outer  # (N, out)
        x, (values,) = kept(ctx)  # (N, in), (out, in)
        if x is not None:
            ctx.memory.add_product(ctx.weight, grad.T, x)
        grad_x = multiply(grad, values) if ctx.needs_input_grad[0] else None
        grad_bias = grad.sum(dim=0) if ctx.needs_input_grad[2] else None
        return grad_x, None, grad_bias, None, None


class _Embedding(Function):
    @staticmethod
    def forward(ctx: Any, ids: Tensor, *layer: Any) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.weight, ctx.padding_idx, ctx.memory = layer
        return F.embedding(ids, ctx.weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[None, ...]:
        (grad,) = outer  # (..., D)
        (ids,) = ctx.saved_tensors
        weight = ctx.weight
        flat, places = grad.flatten(0, -2), ids.flatten()
        if ctx.padding_idx is not None:
            flat, places = flat[places != ctx.padding_idx], places[places != ctx.padding_idx]
        if weight.grad is None:
            ctx.memory.start(weight).zero_()
        weight.grad.index_add_(0, places, flat)
        return None, None, None, None
