"""Take what is divided among processes as what it is part of, and whole tensors in parts.

A parameter that is divided (training/sharding.py) is a DTensor: each process holds some of its
rows. Its gradient and what the optimizer keeps of it are divided alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from biddable.models.freezing import decoder_layers


def is_divided(tensor: Tensor) -> bool:
    """Say whether each process holds but a part of a tensor."""
    return isinstance(tensor, DTensor)


def is_in_parts(model: nn.Module) -> bool:
    """Say whether each process holds but a part of a model."""
    return any(map(is_divided, model.parameters()))


def own_part(tensor: Tensor) -> Tensor:
    """Give what this process holds of a tensor, the same memory; all of it if it is not divided."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """Gather a tensor on each process, all of which call this together if it is divided."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def replace_parameters(model: nn.Module, others: Mapping[nn.Parameter, nn.Parameter]) -> None:
    """Put other parameters in the place of a model's own; modules that share one go on to."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter in others:
                module._parameters[name] = others[parameter]


def emptied(parameter: nn.Parameter, device: torch.device | str) -> nn.Parameter:
    """Make a parameter like another one; on the meta device it takes no memory."""
    made = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
    return nn.Parameter(made, requires_grad=parameter.requires_grad)


def empty_like(other: Tensor | None, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Make room for a tensor, divided as another one is, if that one has its shape."""
    if isinstance(other, DTensor) and other.shape == shape:
        return torch.empty_like(other, dtype=dtype, requires_grad=False)
    return torch.empty(shape, dtype=dtype)


def divide_like(whole: Tensor, other: Tensor) -> Tensor:
    """Keep of a whole tensor what this process holds of another one of its shape.

    Args:
        whole: the same on all processes; one that is divided is given back as it is.
        other: a parameter, divided or not.
    """
    if not isinstance(other, DTensor) or isinstance(whole, DTensor):
        return whole
    placed = whole.to(other.device)
    # without a source each process cuts its own: nothing is sent
    return distribute_tensor(placed, other.device_mesh, other.placements, src_data_rank=None)


def release_weights(model: nn.Module) -> None:
    """Let go of what is gathered: the parameters are the divided ones again."""
    for part in _divided_parts(model):
        part.reshard()


@contextmanager
def layer_by_layer(model: nn.Module) -> Iterator[None]:
    """Let a model be run without gradients: a layer is gathered as a pass comes to it, and let go.

    What is in no layer, as the embeddings and the head, is gathered for all of it. All processes
    call this together, and within it run the decoder as often as each other; the head runs as
    often as each likes. Nothing is done where no part is divided.
    """
    layers = {*map(id, decoder_layers(model))} if isinstance(model, PreTrainedModel) else set()
    for part in _divided_parts(model):
        if id(part) not in layers:
            part.unshard()
    try:
        yield
    finally:
        release_weights(model)


def _divided_parts(model: nn.Module) -> list[FSDPModule]:
    return [module for module in model.modules() if isinstance(module, FSDPModule)]
