"""Count what a forward pass keeps for the backward pass, as autograd's own hooks see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from biddable.models.quantized import is_small


def kept_for_gradient(model: nn.Module, run: Callable[[], Any]) -> int:
    """Run a forward pass and count the bytes that autograd keeps of it, each storage once.

    Args:
        model: its parameters are not counted; may be without numbers.
        run: the pass.

    Example:
        >>> layer, x = nn.Linear(8, 8), torch.ones(4, 8)
        >>> kept_for_gradient(layer, lambda: layer(x).exp())  # x, and what exp gives
        256
    """
    # a weight in few bits has no storage, and autograd keeps none of it
    plain = [p for p in model.parameters() if not is_small(p)]
    weights = {p.untyped_storage()._cdata for p in plain}
    found: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            found[storage._cdata] = storage  # held, so that its address is not used again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    return sum(storage.nbytes() for storage in found.values())
