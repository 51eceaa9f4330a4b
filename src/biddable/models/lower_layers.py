"""Find the lower layers that no training changes, and put their known output in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from biddable.models.freezing import decoder_layers
from biddable.models.randomness import drawn_noise
from biddable.models.replaced import replaced_output

_PROBE_IDS = torch.arange(2, 18)[None]


def num_constant_layers(model: PreTrainedModel) -> int:
    """Count the layers, from the embeddings up, whose output for given ids is always the same.

    Found by running a few ids twice as in training: nothing below may have a gradient, and no
    random number may show. Those that seldom do (dropout of 1e-3) the modules' own settings tell.

    Args:
        model: as it is going to be trained.

    Returns:
        0 where already the first layer's output changes.
    """
    layers, (num_quiet, _) = decoder_layers(model), quiet_layers(model)
    was_training = model.training
    model.train(True)
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(0)
            first, second = (_outputs(model, layers) for _ in range(2))
    finally:
        model.train(was_training)
    for number, (one, other) in enumerate(zip(first, second, strict=True)):
        is_constant = isinstance(one, Tensor) and not one.requires_grad and torch.equal(one, other)
        if not is_constant:
            return min(number, num_quiet)
    return num_quiet


def quiet_layers(model: PreTrainedModel) -> tuple[int, str]:
    """Count the layers, from the embeddings up, in and below which nothing is drawn at random.

    Args:
        model: as it is going to be trained.

    Returns:
        The count, and what is drawn in the next layer, in words; empty if nothing is in any. What
        is neither in a layer nor in the head counts as below all.
    """
    layers, head = decoder_layers(model), model.get_output_embeddings()
    number_of = {id(part): n for n, layer in enumerate(layers) for part in layer.modules()}
    above = {id(part) for part in head.modules()} if head is not None else set()
    count, told = len(layers), ""
    for module, noise in drawn_noise(model):
        number = len(layers) if id(module) in above else number_of.get(id(module), 0)
        if number < count:
            count, told = number, noise
    return count, told


@contextmanager
def up_to(model: PreTrainedModel, num_layers: int) -> Iterator[list[Tensor]]:
    """Run the lower layers only: what they give is in the list after each call of the model.

    Args:
        model: a transformers causal LM.
        num_layers: how many are run, at least one.
    """
    seen: list[Tensor] = []
    layers = decoder_layers(model)
    with ExitStack() as stack:
        stack.enter_context(_hook(layers[num_layers - 1], seen.append))
        for layer in layers[num_layers:]:
            stack.enter_context(_passing(layer))
        yield seen


@contextmanager
def starting_from(model: PreTrainedModel, states: Tensor, num_layers: int) -> Iterator[None]:
    """Skip the lower layers, as what they would give is known.

    Args:
        model: a transformers causal LM.
        states: (B, T, D), the output of the last layer that is skipped.
        num_layers: how many are skipped, at least one.
    """
    layers = decoder_layers(model)
    with ExitStack() as stack:
        for layer in layers[: num_layers - 1]:
            stack.enter_context(_passing(layer))
        stack.enter_context(replaced_output(layers[num_layers - 1], lambda *_, **__: states))
        yield


def _outputs(model: PreTrainedModel, layers: nn.ModuleList) -> list[Any]:
    seen: list[Any] = []
    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(_hook(layer, seen.append))
        model(input_ids=_PROBE_IDS.to(model.device), use_cache=False)
    return seen


@contextmanager
def _hook(layer: nn.Module, tell: Callable[[Any], None]) -> Iterator[None]:
    handle = layer.register_forward_hook(lambda module, given, output: tell(output))
    try:
        yield
    finally:
        handle.remove()


def _passing(layer: nn.Module) -> Any:
    """Let a layer hand on what it is given."""
    return replaced_output(layer, lambda states, *_, **__: states)
