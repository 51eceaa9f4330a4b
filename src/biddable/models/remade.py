"""Tensors that cost little to make again, so that no layer keeps them for the gradient.

The output of a norm, or of an MLP's gate, is as large as what it was made from, and that is kept
anyway. A layer of ours that needs such a tensor in its backward pass keeps the inputs instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

_ATTRIBUTE = "biddable_recipe"


@dataclass(slots=True)
class Remaking:
    """Make a tensor again when the first of those that need it asks, and forget it after the last.

    Attributes:
        make: gives the tensor from what it was made of.
        num_waiting: how many have still to ask.
        made: the tensor, between the first and the last of them.
    """

    make: Callable[..., Tensor]
    num_waiting: int = 0
    made: Tensor | None = None

    def take(self, *given: Tensor) -> Tensor:
        """Give the tensor to one of those that need it."""
        tensor = self.make(*given) if self.made is None else self.made
        self.num_waiting -= 1
        self.made = tensor if self.num_waiting > 0 else None
        return tensor


def mark_remade(tensor: Tensor, make: Callable[..., Tensor], *given: Tensor) -> Tensor:
    """Say how a tensor can be made again.

    Args:
        tensor: as it was made.
        make: gives its numbers from ``given``, without a gradient.
        given: tensors that are kept anyway.

    Returns:
        The tensor.
    """
    recipe = Remaking(make), tuple(each.detach() for each in given)
    setattr(tensor, _ATTRIBUTE, (tensor._version, recipe))
    return tensor


def recipe_of(tensor: Tensor) -> Any:
    """Give what `keep` takes for a tensor; None where it has to be kept itself.

    A tensor that was written to since it was made has to be.
    """
    found = getattr(tensor, _ATTRIBUTE, None)
    if found is None:  # and the tensor, of inference perhaps, has no version
        return None
    version, recipe = found
    return recipe if version == tensor._version else None


def keep(ctx: Any, x: Tensor | None, recipe: Any, *others: Tensor) -> None:
    """Keep tensors for a backward pass, the first by what it is made of if that is known.

    Args:
        ctx: of an autograd function; `kept` is called with it, once.
        x: any shape; None if it will not be needed.
        recipe: of ``x``.
        others: kept as they are.
    """
    ctx.remaking, given = None, () if x is None else (x,)
    if recipe is not None and x is not None:
        ctx.remaking, given = recipe
        ctx.remaking.num_waiting += 1
        ctx.shape = x.shape
    ctx.num_others = len(others)
    ctx.save_for_backward(*others, *given)


def kept(ctx: Any) -> tuple[Tensor | None, tuple[Tensor, ...]]:
    """Give what was kept: the first tensor, None if it was not, and the others."""
    saved = ctx.saved_tensors
    others, given = saved[: ctx.num_others], saved[ctx.num_others :]
    if ctx.remaking is not None:
        return ctx.remaking.take(*given).view(ctx.shape), others
    return (given[0] if given else None), others
