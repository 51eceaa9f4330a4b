"""Freeze the lower layers of a model, so that only the upper ones are trained."""

from __future__ import annotations

import logging

from torch import nn
from transformers import PreTrainedModel

from biddable.errors import ConfigError

_log = logging.getLogger(__name__)


def freeze_layers(model: PreTrainedModel, num_frozen_layers: int) -> int:
    """Freeze the embeddings and the first decoder layers of a model, in place.

    A head that shares its weight with the embeddings stays frozen with them; that is logged.

    Args:
        model: a transformers causal LM.
        num_frozen_layers: how many layers, counted from the embeddings; with 0 only those freeze.

    Returns:
        The number of parameters that are still trained.

    Raises:
        ConfigError: the number is below 0 or leaves no layer to train.
    """
    layers = decoder_layers(model)
    if not 0 <= num_frozen_layers < len(layers):
        raise ConfigError(
            f"method.num_frozen_layers: found {num_frozen_layers}; the model has {len(layers)} "
            f"layers, so 0 to {len(layers) - 1} can be frozen."
        )
    embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    for module in (*embeddings, *layers[:num_frozen_layers]):  # those of positions, too
        module.requires_grad_(False)
    if has_tied_head(model):
        _log.info("the head shares its weight with the embeddings: both stay as they are")
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """Return the list of a causal LM's decoder layers, the lowest first.

    Raises:
        ConfigError: the model keeps its layers in no list of the configured length.
    """
    num_layers = model.config.get_text_config(decoder=True).num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == num_layers:
            return module
    raise ConfigError(f"method: {type(model).__name__} has no list of layers; use method full.")


def has_tied_head(model: PreTrainedModel) -> bool:
    """Say whether the head's weight is the embeddings' own."""
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight
